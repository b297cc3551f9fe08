// StateService over a real store, in a gRPC server in this process, and a client's stub.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/state/layouts.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/inference/metrics.h"
#include "server/inference/state_service.h"
#include "tests/server/inference/serving_fixture.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {

class StateServing {
 public:
  // `store`: none = RocksDB in a directory of its own.
  explicit StateServing(
      const std::function<void(RequestLimits&)>& limit = [](RequestLimits&) {},
      std::unique_ptr<state::StateStore> given_store = nullptr)
      : store(std::move(given_store)) {
    if (store == nullptr) {
      store = state::OpenRocksDbStore({.path = directory_ / "store"}).value();
    }
    serving.context.store = store.get();
    serving.context.streams = &streams;
    serving.context.clock = &clock;
    limit(serving.context.limits);
    service_ = std::make_unique<StateService>(serving.context, &metrics_);
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    // A window that does not grow: what a client has not asked for stays with the server.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    states = v1::StateService::NewStub(grpc::CreateCustomChannel(
        "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments));
  }
  ~StateServing() {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  // A record of the served backbone, as one that was harvested; its values follow from `seed`.
  state::Record MakeRecord(uint32_t seed) const {
    state::Record record;
    record.model = "tiny";
    record.fingerprint = serving.session->weights->fingerprint;
    record.numerics = "fp32/avx2";
    record.lineage.operation = "harvest";
    record.lineage.arguments = {{"document", "d"}};
    record.state = state::State::Empty(state::Shape::Of(serving.session->weights->config));
    std::mt19937 bits(seed);
    const auto fill = [&](std::vector<float>& values) {
      for (float& value : values) value = static_cast<float>(bits() % 512) / 128 - 2;
    };
    fill(record.state.shift);
    fill(record.state.wkv);
    record.last_hidden.resize(static_cast<size_t>(record.state.shape.width));
    fill(record.last_hidden);
    record.lineage.kept_tokens = {1, 2, 255};
    record.lineage.tokens_read = 3;
    record.lineage.tokens_sha256 = state::TokensSha256(record.lineage.kept_tokens);
    record.token_count = 40;
    return record;
  }
  // Its name.
  std::string Keep(state::Record record, std::vector<std::string> labels = {}) {
    return "states/" +
           store->Put("default", std::move(record), {.labels = std::move(labels)})->record.id;
  }
  std::string Child(const std::vector<std::string>& parents, uint32_t seed = 1) {
    state::Record record = MakeRecord(seed);
    for (const std::string& parent : parents) {
      record.lineage.parents.push_back(parent.substr(std::string("states/").size()));
    }
    return Keep(std::move(record));
  }

  template <typename Method, typename Request, typename Response>
  grpc::Status Call(Method method, const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    response->Clear();
    return (states.get()->*method)(&context, request, response);
  }

  // Sends the messages; the answer.
  grpc::Status Send(const std::vector<v1::UploadStateRequest>& messages, v1::State* state) {
    grpc::ClientContext context;
    SetDeadline(context);
    state->Clear();
    const auto stream = states->UploadState(&context, state);
    for (const v1::UploadStateRequest& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    return stream->Finish();
  }
  grpc::Status Upload(const v1::UploadOptions& options, const std::string& file, v1::State* state,
                      size_t chunk_bytes = size_t{1} << 20) {
    std::vector<v1::UploadStateRequest> messages(1);
    *messages[0].mutable_options() = options;
    for (size_t at = 0; at < file.size(); at += chunk_bytes) {
      messages.emplace_back().set_chunk(file.substr(at, chunk_bytes));
    }
    return Send(messages, state);
  }

  struct Downloaded {
    grpc::Status status;
    v1::DownloadHeader header;
    std::string file;
    size_t largest_chunk = 0;
  };
  Downloaded Download(const std::string& name, v1::StateLayout layout = {},
                      v1::StateDType dtype = {}) {
    v1::DownloadStateRequest request;
    request.set_name(name);
    request.set_layout(layout);
    request.set_dtype(dtype);
    grpc::ClientContext context;
    SetDeadline(context);
    const auto stream = states->DownloadState(&context, request);
    Downloaded result;
    bool first = true;
    for (v1::DownloadStateResponse message; stream->Read(&message); first = false) {
      EXPECT_EQ(message.has_header(), first);
      if (message.has_header()) result.header = message.header();
      result.file += message.chunk();
      result.largest_chunk = std::max(result.largest_chunk, message.chunk().size());
    }
    result.status = stream->Finish();
    return result;
  }

  // Far beyond what any call takes: a test that hangs ends with an error.
  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(120));
  }

  std::unique_ptr<state::StateStore> store;
  // Of the streams: what passes and who visits, the test says.
  ManualClock clock;
  OpenStreams streams;
  Serving serving;
  std::unique_ptr<v1::StateService::Stub> states;

 private:
  testing::TemporaryDirectory directory_;
  Metrics metrics_;
  std::unique_ptr<StateService> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace dreamstate::server
