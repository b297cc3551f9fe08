// States move to a new backbone by reading their tokens again.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/swap_fixture.h"
#include "tests/server/inference/grpc_details.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Name;
using testing::PublishModel;
using testing::SeededDecode;

constexpr char kText[] = "It was the best of times, it was the worst of times";

class Migrate : public testing::Swap {
 protected:
  v1::State Harvest(const std::string& text, bool keep_tokens, const std::string& source = "") {
    v1::HarvestOptions options;
    options.set_keep_tokens(keep_tokens);
    options.set_source_state(source);
    v1::Document document;
    document.set_id("document");
    document.set_label("novel");
    document.mutable_content()->set_text(text);
    const testing::Harvested result = session_->Harvest(options, {document});
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_EQ(result.states.size(), 1u);
    return result.states.empty() ? v1::State() : result.states[0].state();
  }
  grpc::Status MigrateState(const std::string& name, v1::State* state,
                            const std::string& request_id = "") {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    v1::MigrateStateRequest request;
    request.set_name(name);
    request.set_request_id(request_id);
    return session_->states->MigrateState(&context, request, state);
  }
  std::vector<int32_t> Continue(const std::string& name) {
    const auto decoded = session_->Decode(SeededDecode(name, 1, 30));
    EXPECT_TRUE(decoded.status.ok()) << decoded.status.error_message();
    return decoded.status.ok() ? decoded.branches.at(0).tokens : std::vector<int32_t>();
  }
  // Two versions on, the first backbone is gone.
  void PublishTwoMore() {
    for (const int version : {2, 3}) {
      PublishModel(repository_, "m", version);
      WaitVersion(version);
    }
  }
};

TEST_F(Migrate, AStateBecomesWhatItsTokensHarvestOnTheNewBackbone) {
  Start();
  const v1::State old_state = Harvest(kText, /*keep_tokens=*/true);
  const v1::State child = Harvest(", it was the age", true, old_state.name());
  PublishTwoMore();
  // The error says what can be done, in a message that a person can read.
  const auto refused = session_->Decode(SeededDecode(child.name(), 1, 5));
  EXPECT_EQ(refused.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(
      refused.status.error_message(),
      AllOf(HasSubstr("MigrateState"), HasSubstr(child.backbone_fingerprint().substr(0, 12))));

  v1::State moved;
  const grpc::Status status = MigrateState(child.name(), &moved, "once");
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_NE(moved.name(), child.name());
  EXPECT_NE(moved.backbone_fingerprint(), child.backbone_fingerprint());
  EXPECT_EQ(moved.token_count(), child.token_count());
  EXPECT_THAT(moved.labels(), ElementsAre("novel"));
  EXPECT_EQ(moved.lineage().operation(), "migrate");
  EXPECT_THAT(moved.lineage().parents(), ElementsAre(child.name()));
  EXPECT_EQ(moved.lineage().arguments().fields().at("source_fingerprint").string_value(),
            child.backbone_fingerprint());
  EXPECT_EQ(moved.lineage().arguments().fields().at("model_version").string_value(), Name(3));
  const v1::State fresh = Harvest(std::string(kText) + ", it was the age", false);
  EXPECT_EQ(Continue(moved.name()), Continue(fresh.name()));
  {
    v1::CompareStatesRequest compare;
    compare.set_first(moved.name());
    compare.set_second(fresh.name());
    v1::CompareStatesResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(session_->states->CompareStates(&context, compare, &response).ok());
    EXPECT_TRUE(response.identical());
  }
  // Once for a request_id.
  v1::State again;
  ASSERT_TRUE(MigrateState(child.name(), &again, "once").ok());
  EXPECT_EQ(again.name(), moved.name());
  // What moved once moves again, with the tokens that it kept.
  PublishModel(repository_, "m", 4);
  WaitVersion(4);
  v1::State on;
  EXPECT_TRUE(MigrateState(moved.name(), &on).ok());
  EXPECT_EQ(on.token_count(), child.token_count());
}

TEST_F(Migrate, TokensBeyondTheLimitAreNotHeld) {
  Start({"--migrate-max-tokens", "30"});
  const v1::State small = Harvest("A short text", /*keep_tokens=*/true);
  const v1::State large = Harvest(kText, /*keep_tokens=*/true);
  PublishTwoMore();
  v1::State moved;
  const grpc::Status status = MigrateState(large.name(), &moved);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr(large.name()), HasSubstr("at most 30")));
  // One after another, what each took is given back.
  for (int i = 0; i < 4; ++i) {
    const grpc::Status again = MigrateState(small.name(), &moved);
    EXPECT_TRUE(again.ok()) << again.error_message();
  }
}

TEST_F(Migrate, WhatCannotMoveSaysWhy) {
  Start();
  const v1::State without = Harvest(kText, /*keep_tokens=*/false);
  const v1::State on_top = Harvest("more", true, without.name());
  const v1::State base = Harvest(kText, true);
  const v1::State orphan = Harvest("more", true, base.name());
  v1::State moved;
  const auto expect_refused = [&](const v1::State& state, const std::string& why) {
    const grpc::Status status = MigrateState(state.name(), &moved);
    EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), AllOf(HasSubstr(state.name()), HasSubstr(why)));
  };
  expect_refused(base, "needs no migration");
  PublishTwoMore();
  expect_refused(without, "were not kept");
  expect_refused(on_top, "the tokens of " + without.name() + " were not kept");
  {
    grpc::ClientContext context;
    v1::DeleteStateRequest request;
    request.set_name(base.name());
    v1::DeleteStateResponse response;
    ASSERT_TRUE(session_->states->DeleteState(&context, request, &response).ok());
  }
  expect_refused(orphan, base.name() + ", which " + orphan.name() + " was made from, was deleted");
  const auto refused = session_->Decode(SeededDecode(without.name(), 1, 5));
  EXPECT_EQ(refused.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("pinned"));
  EXPECT_EQ(MigrateState("states/00000000000000000000000000", &moved).error_code(),
            StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace dreamstate
