// New versions and rollbacks while the server serves.
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/paused_decode.h"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/end_to_end/swap_fixture.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using testing::AnotherBundle;
using testing::Name;
using Swap = testing::Swap;
using grpc::StatusCode;
using ::testing::ElementsAre;
using testing::FindDetail;
using ::testing::HasSubstr;
using testing::Health;
using testing::HttpGet;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::PausedDecode;
using testing::PublishModel;
using testing::SeededDecode;
using testing::ServerProcess;
using testing::Session;

TEST_F(Swap, StreamsFinishOnTheVersionTheyBeganWithAndNewOnesTakeTheNew) {
  Start();
  PausedDecode running(*session_, 5);
  EXPECT_EQ(running.version(), Name(1));
  PublishModel(repository_, "m", 2);
  WaitVersion(2);
  EXPECT_THAT(GetModel().other_live_versions(), ElementsAre(Name(1)));
  EXPECT_EQ(GetVersion(1).state(), v1::ModelVersion::DRAINING);
  PausedDecode newer(*session_, 5);
  EXPECT_EQ(newer.version(), Name(2));
  const auto [old_tokens, old_status] = running.Finish();
  const auto [new_tokens, new_status] = newer.Finish();
  ASSERT_TRUE(old_status.ok()) << old_status.error_message();
  ASSERT_TRUE(new_status.ok()) << new_status.error_message();
  EXPECT_EQ(old_tokens.size(), static_cast<size_t>(PausedDecode::kTokens));
  EXPECT_NE(old_tokens, new_tokens);
  // To the bit what each version says when nothing happens meanwhile.
  const auto replay = [&](int64_t version) {
    const auto decoded = session_->Decode(PausedDecode::Request(5));
    EXPECT_TRUE(decoded.status.ok()) << decoded.status.error_message();
    EXPECT_EQ(decoded.start.model_version(), Name(version));
    return decoded.branches.at(0).tokens;
  };
  EXPECT_EQ(replay(2), new_tokens);
  ASSERT_TRUE(Pin(Name(1)).ok());
  WaitVersion(1);
  EXPECT_EQ(replay(1), old_tokens);
  EXPECT_EQ(server_->Stop(), 0);
}

TEST_F(Swap, StatesOfThePreviousBackboneAreServedUntilAThirdReplacesIt) {
  Start();
  const std::string text = "a text that both have read";
  const std::string old_state = session_->HarvestText(text);
  const auto before = session_->Decode(SeededDecode(old_state, 1, 20));
  PublishModel(repository_, "m", 2);
  WaitVersion(2);
  const std::string new_state = session_->HarvestText(text);
  const auto after = session_->Decode(SeededDecode(old_state, 1, 20));
  EXPECT_EQ(after.start.model_version(), Name(1));
  EXPECT_EQ(after.branches.at(0).tokens, before.branches.at(0).tokens);
  EXPECT_EQ(session_->Decode(SeededDecode(new_state, 1, 20)).start.model_version(), Name(2));
  EXPECT_EQ(session_->Decode(SeededDecode("", 1, 20)).start.model_version(), Name(2));

  v1::ScoreRequest score;
  score.mutable_target()->set_text("more");
  EXPECT_EQ(session_->Score(score).second.model_version(), Name(2));
  score.mutable_source()->set_state(old_state);
  EXPECT_EQ(session_->Score(score).second.model_version(), Name(1));

  v1::HarvestOptions harvest;
  v1::Document document;
  document.set_id("d");
  document.mutable_content()->set_text("more");
  harvest.set_source_state(old_state);
  harvest.set_inline_tensors(true);
  const auto harvested = session_->Harvest(harvest, {document});
  ASSERT_EQ(harvested.states.size(), 1u) << harvested.status.error_message();
  const v1::StateTensors& tensors = harvested.states[0].tensors();
  EXPECT_EQ(tensors.backbone_fingerprint(),
            session_->GetState(old_state).second.backbone_fingerprint());
  v1::DecodeRequest with_tensors = SeededDecode("", 1, 5);
  *with_tensors.mutable_source()->mutable_tensors() = tensors;
  EXPECT_EQ(session_->Decode(with_tensors).start.model_version(), Name(1));

  PublishModel(repository_, "m", 3);
  WaitVersion(3);
  EXPECT_EQ(session_->Decode(SeededDecode(new_state, 1, 5)).start.model_version(), Name(2));
  const std::string found = session_->GetState(old_state).second.backbone_fingerprint();
  const std::string expected = GetModel().backbone_fingerprint();
  for (const grpc::Status& status :
       {session_->Decode(SeededDecode(old_state, 1, 5)).status, session_->Score(score).first,
        session_->Harvest(harvest, {document}).status, session_->Decode(with_tensors).status}) {
    EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION) << status.error_message();
    const auto failure = FindDetail<google::rpc::PreconditionFailure>(status);
    ASSERT_TRUE(failure.has_value());
    EXPECT_THAT(failure->violations(0).description(), HasSubstr(found));
    EXPECT_THAT(failure->violations(0).description(), HasSubstr(expected));
  }
}

TEST_F(Swap, ABundleOfTheSameBackboneIsSwappedInWithoutLoadingIt) {
  Start({}, /*admin=*/true);
  const auto metrics = [&] { return HttpGet(server_->admin_port(), "/metrics"); };
  const std::string state = session_->HarvestText("a text");
  PausedDecode running(*session_, 5);
  PublishModel(repository_, "m", 1, AnotherBundle);
  WaitVersion(2);
  // Calls see a swap a moment before the metrics do.
  while (metrics().find("dreamstate_live_versions{model=\"m\"} 2") == std::string::npos ||
         metrics().find("dreamstate_serving_version{model=\"m\"} 2") == std::string::npos) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::string both = metrics();
  EXPECT_THAT(both, HasSubstr("dreamstate_backbone_loads_total{model=\"m\"} 1"));
  EXPECT_THAT(both, HasSubstr("dreamstate_live_versions{model=\"m\"} 2"));
  EXPECT_THAT(both, HasSubstr("dreamstate_serving_version{model=\"m\"} 2"));
  EXPECT_THAT(both, HasSubstr("dreamstate_reloads_total{model=\"m\",outcome=\"served\"} 2"));
  EXPECT_THAT(both, HasSubstr("dreamstate_checkpoint_age_seconds{model=\"m\"}"));
  const auto decoded = session_->Decode(SeededDecode(state, 1, 5));
  EXPECT_TRUE(decoded.status.ok()) << decoded.status.error_message();
  EXPECT_EQ(decoded.start.model_version(), Name(2));
  const auto [tokens, status] = running.Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(session_->Decode(PausedDecode::Request(5)).branches.at(0).tokens, tokens);
  while (GetVersion(1).state() != v1::ModelVersion::RELEASED) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  while (metrics().find("dreamstate_live_versions{model=\"m\"} 1") == std::string::npos) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::string after = metrics();
  EXPECT_THAT(after, HasSubstr("version=\"2\""));
  EXPECT_THAT(after, Not(HasSubstr("version=\"1\"")));
  EXPECT_THAT(GetModel().other_live_versions(), IsEmpty());
  EXPECT_THAT(server_->Errors(), HasSubstr("shares the backbone of version 1"));
}

TEST_F(Swap, PinsHoldAcrossServersAndRestarts) {
  PublishModel(repository_, "m", 2);
  Start();
  EXPECT_EQ(GetModel().serving_version(), Name(2));
  EXPECT_EQ(GetModel().follow(), v1::Model::ALL);
  v1::Model pinned;
  ASSERT_TRUE(Pin(Name(1), &pinned).ok());
  EXPECT_EQ(pinned.pinned_version(), Name(1));
  WaitVersion(1);
  EXPECT_TRUE(GetVersion(1).pinned());
  EXPECT_FALSE(GetVersion(2).pinned());
  PublishModel(repository_, "m", 3);
  ASSERT_TRUE(Reload().ok());
  EXPECT_EQ(GetModel().serving_version(), Name(1));
  EXPECT_EQ(server_->Stop(), 0);
  Start();
  EXPECT_EQ(GetModel().serving_version(), Name(1));
  EXPECT_EQ(GetModel().pinned_version(), Name(1));
  ASSERT_TRUE(Unpin().ok());
  ASSERT_TRUE(Unpin().ok());
  ASSERT_TRUE(Reload().ok());
  EXPECT_EQ(GetModel().serving_version(), Name(3));
  EXPECT_EQ(GetModel().pinned_version(), "");

  for (const char* wrong : {"", "models/m", "models/m/versions/x", "models/m/versions/0",
                            "models/M/versions/1", "models/m/versions/01", "versions/1"}) {
    const grpc::Status status = Pin(wrong);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << wrong;
    EXPECT_EQ(testing::FieldOf(status), "name");
  }
  EXPECT_EQ(Pin("models/m/versions/77").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Pin("models/other/versions/1").error_code(), StatusCode::NOT_FOUND);
}

TEST_F(Swap, AdminCallsCanBeSwitchedOff) {
  Start({"--admin-calls=false"});
  EXPECT_EQ(Reload().error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Pin(Name(1)).error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Unpin().error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_FALSE(std::filesystem::exists(repository_ + "/bundles/m/pin"));
  EXPECT_EQ(GetModel().serving_version(), Name(1));
}

TEST_F(Swap, FollowingTheSameBackbonePassesOthersOver) {
  Start({"--follow", "pinned,m=same-backbone"});
  EXPECT_EQ(GetModel().follow(), v1::Model::SAME_BACKBONE);
  PublishModel(repository_, "m", 2);
  PublishModel(repository_, "m", 1, AnotherBundle);
  WaitVersion(3);
  EXPECT_EQ(GetVersion(2).state(), v1::ModelVersion::DISCOVERED);
}

TEST_F(Swap, FollowingPinsTakesNothingElse) {
  ASSERT_TRUE(repository::Repository::Open(repository_).value()->Pin("m", 1).ok());
  Start({"--follow", "pinned"});
  PublishModel(repository_, "m", 2);
  ASSERT_TRUE(Reload().ok());
  EXPECT_EQ(GetModel().serving_version(), Name(1));
  ASSERT_TRUE(Pin(Name(2)).ok());
  WaitVersion(2);
  // Without a pin it stays where it is.
  ASSERT_TRUE(Unpin().ok());
  PublishModel(repository_, "m", 3);
  ASSERT_TRUE(Reload().ok());
  EXPECT_EQ(GetModel().serving_version(), Name(2));
}

TEST_F(Swap, StreamsThatHoldUpAThirdVersionAreEndedAfterMaxDrain) {
  Start({"--max-drain-seconds", "0.05"});
  PausedDecode running(*session_, 5);
  // A stream that waits for its caller, too.
  grpc::ClientContext context;
  testing::SetDeadline(context);
  auto harvest = session_->states->HarvestStates(&context);
  v1::HarvestStatesRequest options;
  options.mutable_options();
  ASSERT_TRUE(harvest->Write(options));
  v1::HarvestStatesRequest document;
  document.mutable_document()->set_id("d");
  document.mutable_document()->mutable_content()->set_text("x");
  ASSERT_TRUE(harvest->Write(document));
  v1::HarvestStatesResponse made;
  ASSERT_TRUE(harvest->Read(&made));

  PublishModel(repository_, "m", 1, AnotherBundle);
  WaitVersion(2);
  PausedDecode second(*session_, 5);
  EXPECT_EQ(second.version(), Name(2));
  PublishModel(repository_, "m", 1, AnotherBundle);
  WaitVersion(3);
  const auto [tokens, status] = running.Finish();
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr(Name(1)));
  EXPECT_TRUE(FindDetail<google::rpc::RetryInfo>(status).has_value());
  EXPECT_LT(tokens.size(), static_cast<size_t>(PausedDecode::kTokens));
  while (harvest->Read(&made)) {
  }
  const grpc::Status harvested = harvest->Finish();
  EXPECT_EQ(harvested.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(harvested.error_message(), HasSubstr(Name(1)));
  // Nobody waits for the place of the second, so it may take its time.
  EXPECT_TRUE(second.Finish().second.ok());
}

TEST_F(Swap, ReloadWithAShortDeadlineEndsTheWaitingOnly) {
  Start();
  PausedDecode running(*session_, 5);
  PublishModel(repository_, "m", 1, AnotherBundle);
  WaitVersion(2);
  PublishModel(repository_, "m", 1, AnotherBundle);  // waits for the stream's place
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  v1::ReloadModelRequest request;
  request.set_name("models/m");
  request.set_wait(true);
  v1::ReloadModelResponse response;
  EXPECT_EQ(session_->models->ReloadModel(&context, request, &response).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  ASSERT_TRUE(Reload(&response, /*wait=*/false).ok());
  EXPECT_EQ(response.model().serving_version(), Name(2));
  EXPECT_TRUE(running.Finish().second.ok());
  ASSERT_TRUE(Reload(&response).ok());
  EXPECT_EQ(response.model().serving_version(), Name(3));
  EXPECT_THAT(response.retried_versions(), IsEmpty());
}

}  // namespace
}  // namespace dreamstate
