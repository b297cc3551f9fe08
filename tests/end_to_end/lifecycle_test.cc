// Starting, health, draining, ending, and what the program says when it cannot run.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "dreamstate/v1/model_service.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::Health;
using testing::HttpGet;
using testing::SeededDecode;
using testing::ServerProcess;
using testing::Session;
using ::testing::StartsWith;

constexpr int kEndToken = 0;  // of the starter model

class Lifecycle : public ::testing::Test {
 protected:
  ServerProcess::Setup Setup() const {
    return {.repository = DREAMSTATE_TEST_DATA "/repository", .store = directory_ / "store"};
  }
  testing::TemporaryDirectory directory_;
};

// A long decode that is under way: its start message has come.
class RunningDecode {
 public:
  explicit RunningDecode(Session& session, int tokens = 1 << 20) {
    testing::SetDeadline(context_);
    stream_ = session.decode->Decode(&context_, testing::EndlessDecode(tokens, kEndToken));
    v1::DecodeResponse response;
    EXPECT_TRUE(stream_->Read(&response) && response.has_start());
  }
  // Reads to the end; the number of tokens and the status.
  std::pair<int64_t, grpc::Status> Finish() {
    int64_t tokens = 0;
    v1::DecodeResponse response;
    while (stream_->Read(&response)) {
      if (response.has_piece()) tokens += response.piece().piece().token_ids_size();
    }
    return {tokens, stream_->Finish()};
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::DecodeResponse>> stream_;
};

TEST_F(Lifecycle, WithoutAModelTheServerLivesAndSaysNotServing) {
  ServerProcess::Setup setup = Setup();
  setup.repository = directory_ / "empty";
  std::filesystem::create_directory(setup.repository);
  ServerProcess server(setup);
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  EXPECT_EQ(session.CheckHealth(""), Health::NOT_SERVING);
  EXPECT_EQ(session.CheckHealth("liveness"), Health::SERVING);
  EXPECT_EQ(session.CheckHealth("models/tiny"), std::nullopt);
  const auto decoded = session.Decode(SeededDecode("", 1, 1));
  EXPECT_EQ(decoded.status.error_code(), StatusCode::UNAVAILABLE);
  // The store needs no model.
  EXPECT_TRUE(session.ListStates({}).first.ok());

  // A model that comes later is served.
  std::filesystem::copy(DREAMSTATE_TEST_DATA "/repository", setup.repository,
                        std::filesystem::copy_options::recursive);
  session.WaitServing();
  EXPECT_EQ(session.CheckHealth("models/tiny"), Health::SERVING);
  EXPECT_EQ(session.CheckHealth("liveness"), Health::SERVING);
  EXPECT_TRUE(session.Decode(SeededDecode("", 1, 1)).status.ok());
  EXPECT_EQ(server.Stop(), 0);
}

TEST_F(Lifecycle, AWantedModelThatIsNotThereIsNotServing) {
  ServerProcess::Setup setup = Setup();
  setup.flags = {"--models", "absent"};
  ServerProcess server(setup);
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  EXPECT_EQ(session.CheckHealth("models/absent"), Health::NOT_SERVING);
  EXPECT_EQ(session.CheckHealth(""), Health::NOT_SERVING);
}

TEST_F(Lifecycle, SigtermLetsARunningStreamFinishAndRefusesNewWork) {
  ServerProcess server(Setup());
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  constexpr int kTokens = 2'000;
  RunningDecode running(session, kTokens);
  server.Signal(SIGTERM);
  while (session.CheckHealth("") == Health::SERVING) std::this_thread::yield();
  EXPECT_EQ(session.CheckHealth("models/tiny"), Health::NOT_SERVING);
  EXPECT_EQ(session.CheckHealth("liveness"), Health::SERVING);
  EXPECT_EQ(session.Decode(SeededDecode("", 1, 1)).status.error_code(), StatusCode::UNAVAILABLE);
  const auto [tokens, status] = running.Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(tokens, kTokens);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_THAT(server.Errors(), HasSubstr("drained"));
}

TEST_F(Lifecycle, WhatRunsLongerThanTheDrainIsEndedUnavailable) {
  ServerProcess::Setup setup = Setup();
  setup.flags = {"--drain-seconds", "0.2"};
  ServerProcess server(setup);
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  RunningDecode running(session);
  server.Signal(SIGTERM);
  const auto [tokens, status] = running.Finish();
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_EQ(server.Wait(), 0);
}

TEST_F(Lifecycle, AnIdleWatcherDoesNotHoldUpTheDrain) {
  ServerProcess server(Setup());
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  Health response;
  auto watch = session.health->Watch(&context, request);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Health::SERVING);
  server.Signal(SIGTERM);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Health::NOT_SERVING);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_THAT(server.Errors(), HasSubstr("drained"));
}

TEST_F(Lifecycle, SilentStreamsDoNotHoldUpTheDrain) {
  ServerProcess::Setup setup = Setup();
  setup.flags = {"--drain-seconds", "3600"};
  ServerProcess server(setup);
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  grpc::ClientContext harvest_context, batch_context;
  auto harvest = session.states->HarvestStates(&harvest_context);
  v1::HarvestStatesRequest document;
  document.mutable_options();
  ASSERT_TRUE(harvest->Write(document));
  document.mutable_document()->set_id("d");
  document.mutable_document()->mutable_content()->set_text("text");
  ASSERT_TRUE(harvest->Write(document));
  v1::HarvestStatesResponse harvested;
  ASSERT_TRUE(harvest->Read(&harvested));
  auto batch = session.decode->DecodeBatch(&batch_context);
  v1::DecodeBatchRequest request;
  request.set_id("d");
  *request.mutable_request() = SeededDecode("", 1, 1);
  ASSERT_TRUE(batch->Write(request));
  v1::DecodeBatchResponse decoded;
  ASSERT_TRUE(batch->Read(&decoded));
  server.Signal(SIGTERM);
  while (harvest->Read(&harvested)) {
  }
  while (batch->Read(&decoded)) {
  }
  EXPECT_EQ(harvest->Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(batch->Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_THAT(server.Errors(), HasSubstr("drained"));
}

TEST_F(Lifecycle, ASecondSignalEndsAtOnce) {
  ServerProcess server(Setup());
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  RunningDecode running(session);
  server.Signal(SIGTERM);
  while (session.CheckHealth("") == Health::SERVING) std::this_thread::yield();
  server.Signal(SIGINT);
  EXPECT_EQ(server.Wait(), 3);
}

TEST_F(Lifecycle, ReflectionIsThereByFlagOnly) {
  for (const bool wanted : {false, true}) {
    ServerProcess::Setup setup = Setup();
    if (wanted) setup.flags = {"--reflection"};
    ServerProcess server(setup);
    ASSERT_TRUE(server.WaitUntilListening());
    Session session(server.address());
    // A server reflection request that asks for the list of services: field 7, "".
    grpc::GenericStub stub(session.channel);
    grpc::ClientContext context;
    testing::SetDeadline(context);
    grpc::CompletionQueue queue;
    auto call = stub.PrepareCall(
        &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
    void* tag = nullptr;
    bool ok = false;
    call->StartCall(nullptr);
    queue.Next(&tag, &ok);
    const grpc::Slice slice(std::string("\x3a\x00", 2));
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    queue.Next(&tag, &ok);
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
    EXPECT_EQ(ok, wanted);
    if (ok) {
      std::vector<grpc::Slice> slices;
      ASSERT_TRUE(answer.Dump(&slices).ok());
      std::string text;
      for (const grpc::Slice& part : slices)
        text.append(reinterpret_cast<const char*>(part.begin()), part.size());
      for (const char* service : {"dreamstate.v1.ModelService", "dreamstate.v1.StateService",
                                  "dreamstate.v1.DecodeService", "grpc.health.v1.Health"}) {
        EXPECT_THAT(text, HasSubstr(service));
      }
    }
    grpc::Status status;
    call->Finish(&status, nullptr);
    queue.Next(&tag, &ok);
    EXPECT_EQ(status.error_code(), wanted ? StatusCode::OK : StatusCode::UNIMPLEMENTED);
  }
}

// The samples of a metric family: "name{labels}" -> value.
std::map<std::string, double> Samples(const std::string& metrics, const std::string& name) {
  std::map<std::string, double> samples;
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name) || (line[name.size()] != '{' && line[name.size()] != ' ')) continue;
    const size_t space = line.rfind(' ');
    samples[line.substr(0, space)] = std::strtod(line.c_str() + space, nullptr);
  }
  return samples;
}

TEST_F(Lifecycle, MetricsTellWhatHappened) {
  ServerProcess::Setup setup = Setup();
  setup.admin = true;
  setup.flags = {"--expiry-sweep-seconds", "0.05"};
  ServerProcess server(setup);
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  const std::string state = session.HarvestText("Once upon a time", "a label");
  ASSERT_TRUE(session.Decode(SeededDecode(state, 2, 10)).status.ok());
  session.GetState("states/nosuchstate");
  session.GetState("malformed");

  std::string metrics = HttpGet(server.admin_port(), "/metrics");
  // A call's last numbers may come a moment after its answer.
  while (Samples(metrics, "dreamstate_rpc_requests_total").size() < 4) {
    metrics = HttpGet(server.admin_port(), "/metrics");
  }
  for (const auto& [method, code] : std::vector<std::pair<std::string, std::string>>{
           {"StateService/HarvestStates", "OK"},
           {"DecodeService/Decode", "OK"},
           {"StateService/GetState", "NOT_FOUND"},
           {"StateService/GetState", "INVALID_ARGUMENT"}}) {
    const std::string labels = "code=\"" + code + "\",method=\"/dreamstate.v1." + method + "\"";
    EXPECT_EQ(
        Samples(metrics,
                "dreamstate_rpc_requests_total")["dreamstate_rpc_requests_total{" + labels + "}"],
        1)
        << labels;
    EXPECT_EQ(
        Samples(metrics,
                "dreamstate_rpc_duration_seconds_count")["dreamstate_rpc_duration_seconds_count{" +
                                                         labels + "}"],
        1)
        << labels;
  }
  const auto one = [&](const std::string& name) {
    const auto samples = Samples(metrics, name);
    EXPECT_EQ(samples.size(), 1u) << name;
    return samples.empty() ? -1.0 : samples.begin()->second;
  };
  EXPECT_EQ(one("dreamstate_time_to_first_token_seconds_count"), 1);
  EXPECT_EQ(one("dreamstate_time_per_output_token_seconds_count"), 2);
  EXPECT_EQ(one("dreamstate_reused_tokens_total"), 16);
  EXPECT_EQ(one("dreamstate_bundle_info"), 1);
  EXPECT_EQ(one("dreamstate_build_info"), 1);
  EXPECT_GT(one("dreamstate_resident_memory_bytes"), 1e6);
  EXPECT_EQ(Samples(metrics, "dreamstate_store_memory_bytes").size(), 3u);
  EXPECT_GE(one("dreamstate_step_tokens_count"), 10);
  EXPECT_EQ(Samples(metrics, "dreamstate_states")["dreamstate_states{tier=\"store\"}"], 1);
  EXPECT_GT(
      Samples(metrics, "dreamstate_memory_bytes")["dreamstate_memory_bytes{kind=\"weights\"}"], 0);
  EXPECT_GE(
      Samples(metrics,
              "dreamstate_tokens_total")["dreamstate_tokens_total{kind=\"decode\",model=\"tiny\"}"],
      18);
  EXPECT_FALSE(Samples(metrics, "dreamstate_store_duration_seconds_count").empty());

  // What expires leaves the disk by itself.
  grpc::ClientContext context;
  v1::UpdateStateRequest update;
  v1::State updated;
  update.set_name(state);
  update.mutable_annotations()->mutable_time_to_live()->set_nanos(1'000'000);
  ASSERT_TRUE(session.states->UpdateState(&context, update, &updated).ok());
  while (Samples(HttpGet(server.admin_port(), "/metrics"),
                 "dreamstate_states")["dreamstate_states{tier=\"store\"}"] != 0) {
  }

  if (std::system("command -v promtool >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed: the form of /metrics was not checked";
  }
  testing::WriteAll(directory_ / "metrics", HttpGet(server.admin_port(), "/metrics"));
  const std::string command = "promtool check metrics < " + (directory_ / "metrics") + " > " +
                              (directory_ / "promtool") + " 2>&1";
  EXPECT_GE(std::system(command.c_str()), 0);  // its exit code also counts what is not ours
  // The exposer's own metrics, which begin with "exposer_", are not ours to name.
  EXPECT_EQ(testing::ReadAll(directory_ / "promtool").find("dreamstate_"), std::string::npos)
      << testing::ReadAll(directory_ / "promtool");
}

TEST_F(Lifecycle, LogLinesAreJsonWhenAsked) {
  ServerProcess::Setup setup = Setup();
  setup.flags = {"--log-format", "json"};
  ServerProcess server(setup);
  ASSERT_TRUE(server.WaitUntilListening());
  EXPECT_EQ(server.Stop(), 0);
  std::istringstream lines(server.Errors());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(entry.is_object()) << line;
    EXPECT_TRUE(entry.contains("time") && entry.contains("level") && entry.contains("message"));
  }
  EXPECT_GT(count, 2);
}

// The program ends by itself with that code and one line on stderr that has all the parts.
void ExpectRefusal(ServerProcess& server, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(server.Wait(), code);
  const std::string line = server.Errors();
  EXPECT_THAT(line, StartsWith("dreamstate-server: "));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
  for (const std::string& part : parts) EXPECT_THAT(line, HasSubstr(part));
}

TEST_F(Lifecycle, ATakenPortIsOneClearLineAndCode1) {
  const testing::TakenPort taken;
  const std::string address = "127.0.0.1:" + std::to_string(taken.port());
  for (const char* flag : {"--listen-address", "--admin-address"}) {
    ServerProcess server = ServerProcess::WithArguments(
        {"--repository", DREAMSTATE_TEST_DATA "/repository", "--store", directory_ / "store",
         std::string(flag) == "--listen-address" ? "--admin-address" : "--listen-address",
         "127.0.0.1:0", flag, address});
    ExpectRefusal(server, 1, {"cannot listen", address});
  }
}

TEST_F(Lifecycle, TwoServersNeverShareAPort) {
  ServerProcess first(Setup());
  ASSERT_TRUE(first.WaitUntilListening());
  ServerProcess second = ServerProcess::WithArguments(
      {"--repository", DREAMSTATE_TEST_DATA "/repository", "--store", directory_ / "other",
       "--admin-address", "", "--listen-address", first.address()});
  ExpectRefusal(second, 1, {"cannot listen", first.address()});
}

TEST_F(Lifecycle, AStoreThatAnotherProcessHoldsIsOneClearLineAndCode1) {
  ServerProcess first(Setup());
  ASSERT_TRUE(first.WaitUntilListening());
  ServerProcess second(Setup());
  ExpectRefusal(second, 1, {directory_ / "store", std::to_string(first.pid())});
}

TEST_F(Lifecycle, PlacesThatAreNotThereAreOneClearLineAndCode1) {
  ServerProcess::Setup setup = Setup();
  setup.repository = directory_ / "no-repository";
  ServerProcess no_repository(setup);
  ExpectRefusal(no_repository, 1, {setup.repository});

  setup = Setup();
  setup.store = directory_ / "no" + "/such/parent";
  ServerProcess no_parent(setup);
  ExpectRefusal(no_parent, 1, {setup.store});

  testing::WriteAll(directory_ / "file", "not a store");
  setup.store = directory_ / "file";
  ServerProcess no_directory(setup);
  ExpectRefusal(no_directory, 1, {setup.store});
}

TEST_F(Lifecycle, BadFlagsAndConfigFilesAreOneClearLineAndCode2) {
  ServerProcess::Setup setup = Setup();
  setup.flags = {"--thread", "3"};
  ServerProcess bad_flag(setup);
  ExpectRefusal(bad_flag, 2, {"--thread", "--threads"});

  testing::WriteAll(directory_ / "server.json", "{\"thread\": 3}");
  setup.flags = {"--config", directory_ / "server.json"};
  ServerProcess bad_config(setup);
  ExpectRefusal(bad_config, 2, {"server.json", "\"thread\"", "\"threads\""});

  setup.flags = {};
  setup.environment = {"DREAMSTATE_CPU_ISA=mmx"};
  ServerProcess bad_isa(setup);
  ExpectRefusal(bad_isa, 2, {"DREAMSTATE_CPU_ISA", "mmx"});
}

TEST_F(Lifecycle, EveryInstructionSetOfTheMachineServes) {
  for (const std::string& isa :
       std::vector<std::string>{"reference", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx"}) {
    ServerProcess::Setup setup = Setup();
    setup.environment = {"DREAMSTATE_CPU_ISA=" + isa};
    ServerProcess server(setup);
    while (server.Running() && server.Errors().find("listening") == std::string::npos) {
      std::this_thread::yield();
    }
    if (!server.Running()) {
      ExpectRefusal(server, 2, {"DREAMSTATE_CPU_ISA"});  // the processor lacks it
      continue;
    }
    ASSERT_TRUE(server.WaitUntilListening());
    Session session(server.address());
    session.WaitServing();
    EXPECT_TRUE(session.Decode(SeededDecode("", 1, 5)).status.ok());
    EXPECT_EQ(server.Stop(), 0);
  }
}

}  // namespace
}  // namespace dreamstate
