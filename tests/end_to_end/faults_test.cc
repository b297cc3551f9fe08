// What breaks around a server: states of another model, disks that fill up, vanish or turn
// read-only. Nothing acknowledged is lost, and what does not need what broke goes on.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/end_to_end/small_disk.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using ::testing::AnyOf;
using testing::FindDetail;
using testing::Harvested;
using ::testing::HasSubstr;
using testing::SeededDecode;
using testing::ServerProcess;
using testing::Session;

constexpr char kStarter[] = DREAMSTATE_TEST_DATA "/repository";

v1::Document Text(const std::string& id, const std::string& text) {
  v1::Document document;
  document.set_id(id);
  document.mutable_content()->set_text(text);
  return document;
}

class Faults : public ::testing::Test {
 protected:
  testing::TemporaryDirectory directory_;
};

TEST_F(Faults, AStateOfAnotherModelIsRefusedWithBothFingerprints) {
  const std::string repository = directory_ / "repository";
  std::filesystem::copy(kStarter, repository, std::filesystem::copy_options::recursive);
  const repository::Manifest other = testing::PublishModel(repository, "other", 1);
  ServerProcess server({.repository = repository, .store = directory_ / "store"});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing("models/tiny");
  session.WaitServing("models/other");
  const std::string state = session.HarvestText("a text", "", "models/tiny");
  const std::string found = session.GetState(state).second.backbone_fingerprint();
  const std::string& expected = other.Find("backbone")->digest;
  ASSERT_NE(found, expected);

  v1::DecodeRequest decode = SeededDecode(state, 1, 1);
  decode.set_model("models/other");
  v1::ScoreRequest score;
  score.set_model("models/other");
  score.mutable_source()->set_state(state);
  score.mutable_target()->set_text("x");
  v1::HarvestOptions harvest;
  harvest.set_model("models/other");
  harvest.set_source_state(state);
  for (const grpc::Status& status : {session.Decode(decode).status, session.Score(score).first,
                                     session.Harvest(harvest, {Text("d", "x")}).status}) {
    EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION) << status.error_message();
    // The beginnings for people, the whole for programs.
    EXPECT_THAT(status.error_message(), HasSubstr(found.substr(0, 12)));
    EXPECT_THAT(status.error_message(), HasSubstr(expected.substr(0, 12)));
    const auto failure = FindDetail<google::rpc::PreconditionFailure>(status);
    ASSERT_TRUE(failure.has_value());
    ASSERT_EQ(failure->violations_size(), 1);
    EXPECT_EQ(failure->violations(0).subject(), state);
    EXPECT_THAT(failure->violations(0).description(), HasSubstr(found));
    EXPECT_THAT(failure->violations(0).description(), HasSubstr(expected));
  }
  // Its own model still takes it.
  decode.set_model("models/tiny");
  EXPECT_TRUE(session.Decode(decode).status.ok());
  // With two models a request must say which it means.
  decode.clear_model();
  const grpc::Status unnamed = session.Decode(decode).status;
  EXPECT_EQ(unnamed.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(testing::FieldOf(unnamed), "model");
}

TEST_F(Faults, TheDiskCapRefusesAndLosesNothing) {
  ServerProcess server({.repository = kStarter,
                        .store = directory_ / "store",
                        .flags = {"--store-max-bytes", "2097152"}});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  v1::Document document = Text("d", std::string(400, 'x'));
  document.set_every_n(5);  // 80 states are more than the cap holds
  const Harvested result = session.Harvest({}, {document});
  ASSERT_EQ(result.errors.size(), 1u) << result.status.error_message();
  EXPECT_EQ(result.errors[0].code(), static_cast<int>(StatusCode::RESOURCE_EXHAUSTED));
  EXPECT_FALSE(result.states.empty());
  for (const v1::HarvestedState& state : result.states) {
    EXPECT_TRUE(session.GetState(state.state().name()).first.ok());
  }
  EXPECT_TRUE(session.Decode(SeededDecode(result.states[0].state().name(), 1, 3)).status.ok());
  v1::DecodeRequest save = SeededDecode("", 1, 3);
  save.mutable_save_state();
  const grpc::Status status = session.Decode(save).status;
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_TRUE(FindDetail<google::rpc::QuotaFailure>(status).has_value());
}

// Makes a directory read-only for everybody, root included, until this object goes.
class ReadOnly {
 public:
  explicit ReadOnly(const std::string& path) : path_(path) {
    const char* p = path_.c_str();
    mounted_ = mount(p, p, nullptr, MS_BIND, nullptr) == 0;
    done_ = mounted_ && mount(nullptr, p, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }
  ~ReadOnly() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  ReadOnly(const ReadOnly&) = delete;
  ReadOnly& operator=(const ReadOnly&) = delete;
  bool done() const { return done_; }

 private:
  const std::string path_;
  bool mounted_ = false;
  bool done_ = false;
};

TEST_F(Faults, AFullDiskRefusesAndLosesNothing) {
  testing::SmallDisk disk(directory_ / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a small disk here (needs root)";
  const std::string store = directory_ / "disk/store";
  std::vector<std::string> acknowledged;
  {
    ServerProcess server({.repository = kStarter, .store = store});
    ASSERT_TRUE(server.WaitUntilListening());
    Session session(server.address());
    session.WaitServing();
    bool refused = false;
    for (int i = 0; i < 10 && !refused; ++i) {
      v1::Document document = Text("d", std::string(400, 'x'));
      document.set_every_n(5);
      const Harvested result = session.Harvest({}, {document});
      for (const v1::HarvestedState& state : result.states) {
        acknowledged.push_back(state.state().name());
      }
      refused = !result.errors.empty();
      if (!refused) continue;
      EXPECT_EQ(result.errors[0].code(), static_cast<int>(StatusCode::RESOURCE_EXHAUSTED))
          << result.errors[0].message();
    }
    ASSERT_TRUE(refused);
    ASSERT_FALSE(acknowledged.empty());
    // What needs no new space goes on.
    EXPECT_TRUE(session.Decode(SeededDecode(acknowledged.back(), 1, 3)).status.ok());
    EXPECT_TRUE(session.Decode(SeededDecode("", 1, 3)).status.ok());
    EXPECT_EQ(server.Stop(), 0);
  }
  // Everything is there when there is space again.
  const std::string roomy = directory_ / "roomy";
  std::filesystem::copy(store, roomy, std::filesystem::copy_options::recursive);
  ServerProcess server({.repository = kStarter, .store = roomy});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  for (const std::string& name : acknowledged) {
    EXPECT_TRUE(session.GetState(name).first.ok()) << name;
  }
  EXPECT_TRUE(session.Decode(SeededDecode(acknowledged.front(), 1, 3)).status.ok());
}

TEST_F(Faults, AStoreThatTurnsReadOnlyIsUnavailableUntilItIsWritableAgain) {
  const std::string store = directory_ / "store";
  ServerProcess server({.repository = kStarter, .store = store});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  const std::string before = session.HarvestText("a text");
  {
    const ReadOnly read_only(store);
    if (!read_only.done()) GTEST_SKIP() << "may not make a directory read-only here (needs root)";
    const Harvested result = session.Harvest({}, {Text("d", "x")});
    EXPECT_EQ(result.status.error_code(), StatusCode::UNAVAILABLE);
    EXPECT_THAT(result.status.error_message(), HasSubstr("read-only"));
    EXPECT_TRUE(session.Decode(SeededDecode(before, 1, 3)).status.ok());
  }
  session.HarvestText("another text");
}

TEST_F(Faults, AReadOnlyStoreAtTheStartIsOneClearLineAndCode1) {
  const std::string store = directory_ / "store";
  std::filesystem::create_directory(store);
  const ReadOnly read_only(store);
  if (!read_only.done()) GTEST_SKIP() << "may not make a directory read-only here (needs root)";
  ServerProcess server({.repository = kStarter, .store = store});
  EXPECT_EQ(server.Wait(), 1);
  EXPECT_THAT(server.Errors(), ::testing::StartsWith("dreamstate-server: "));
  EXPECT_THAT(server.Errors(), HasSubstr(store));
}

TEST_F(Faults, AStoreThatVanishesIsUnavailableAndTheRestGoesOn) {
  const std::string store = directory_ / "store";
  ServerProcess server(
      {.repository = kStarter, .store = store, .flags = {"--pool-max-bytes", "0"}});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  const std::string before = session.HarvestText("a text");
  std::filesystem::remove_all(store);
  const Harvested result = session.Harvest({}, {Text("d", "x")});
  EXPECT_EQ(result.status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(result.status.error_message(), HasSubstr(store));
  grpc::ClientContext context;
  v1::DeleteStateRequest request;
  v1::DeleteStateResponse response;
  request.set_name(before);
  EXPECT_EQ(session.states->DeleteState(&context, request, &response).error_code(),
            StatusCode::UNAVAILABLE);
  // What needs no store goes on.
  EXPECT_TRUE(session.Decode(SeededDecode("", 2, 5)).status.ok());
  v1::ScoreRequest score;
  score.mutable_target()->set_text("a text");
  EXPECT_TRUE(session.Score(score).first.ok());
  v1::HarvestOptions inline_tensors;
  inline_tensors.set_inline_tensors(true);
  EXPECT_EQ(session.Harvest(inline_tensors, {Text("d", "x")}).states.size(), 1u);
  EXPECT_EQ(server.Stop(), 0);
}

TEST_F(Faults, AReadOnlyRepositoryServes) {
  const std::string repository = directory_ / "repository";
  std::filesystem::copy(kStarter, repository, std::filesystem::copy_options::recursive);
  const ReadOnly read_only(repository);
  if (!read_only.done()) GTEST_SKIP() << "may not make a directory read-only here (needs root)";
  ServerProcess server({.repository = repository, .store = directory_ / "store"});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  EXPECT_TRUE(session.Decode(SeededDecode("", 1, 1)).status.ok());
  // What would change it is refused.
  grpc::ClientContext context;
  v1::PinModelVersionRequest pin;
  pin.set_name("models/tiny/versions/1");
  v1::Model model;
  const grpc::Status status = session.models->PinModelVersion(&context, pin, &model);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("cannot be written from here"));
}

TEST_F(Faults, ABadVersionIsRejectedWithItsReasonAndTheOlderServes) {
  const std::string repository = directory_ / "repository";
  std::filesystem::copy(kStarter, repository, std::filesystem::copy_options::recursive);
  testing::PublishModel(repository, "tiny", 1, [](repository::Manifest& manifest) {
    manifest.self_test.expected_nll += 5;
  });
  ServerProcess server({.repository = repository, .store = directory_ / "store"});
  ASSERT_TRUE(server.WaitUntilListening());
  Session session(server.address());
  session.WaitServing();
  v1::ListModelVersionsRequest request;
  request.set_parent("models/tiny");
  v1::ListModelVersionsResponse versions;
  grpc::ClientContext context;
  ASSERT_TRUE(session.models->ListModelVersions(&context, request, &versions).ok());
  ASSERT_EQ(versions.versions_size(), 2);
  EXPECT_EQ(versions.versions(0).state(), v1::ModelVersion::FAILED);
  EXPECT_THAT(versions.versions(0).reason(), HasSubstr("self-test"));
  EXPECT_EQ(versions.versions(1).state(), v1::ModelVersion::SERVING);
  EXPECT_EQ(session.Decode(SeededDecode("", 1, 1)).start.model_version(), "models/tiny/versions/1");
}

}  // namespace
}  // namespace dreamstate
