#include "server/inference/decode_retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/server/inference/grpc_fixture.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;

// Without a seed: what is drawn differs from call to call.
v1::DecodeRequest Request(const std::string& request_id, int branches = 2) {
  v1::DecodeRequest request;
  request.mutable_prompt()->set_text("hello");
  request.set_max_tokens(12);
  request.set_branches(branches);
  request.mutable_save_state()->set_request_id(request_id);
  return request;
}

std::map<int, std::string> Texts(const std::vector<v1::DecodeResponse>& messages) {
  std::map<int, std::string> texts;
  for (const auto& [index, branch] : Branches(messages)) texts[index] = branch.raw;
  return texts;
}
std::map<int, std::string> States(const std::vector<v1::DecodeResponse>& messages) {
  std::map<int, std::string> states;
  for (const auto& [index, branch] : Branches(messages)) {
    if (branch.finish.has_saved_state()) states[index] = branch.finish.saved_state().name();
  }
  return states;
}

TEST(DecodeRetry, GivesTheFirstCallsTextAndNamesItsStates) {
  GrpcServing grpc;
  const auto [status, first] = grpc.Decode(Request("key"));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(States(first).size(), 2u);
  EXPECT_EQ(grpc.serving.store.puts(), 2);
  for (int i = 0; i < 2; ++i) {
    const auto [again_status, again] = grpc.Decode(Request("key"));
    ASSERT_TRUE(again_status.ok()) << again_status.error_message();
    EXPECT_EQ(again.front().start().seed(), first.front().start().seed());
    EXPECT_EQ(Texts(again), Texts(first));
    EXPECT_EQ(States(again), States(first));
  }
  // Through the other door, too.
  v1::DecodeBatchRequest batched;
  batched.set_id("a");
  *batched.mutable_request() = Request("key");
  const auto [batch_status, decodes] = grpc.Batch({batched});
  ASSERT_TRUE(batch_status.ok());
  EXPECT_EQ(Texts(decodes.at("a").messages), Texts(first));
  EXPECT_EQ(States(decodes.at("a").messages), States(first));
  EXPECT_EQ(grpc.serving.store.puts(), 2);

  // Another key, and none, save others.
  EXPECT_NE(States(grpc.Decode(Request("other")).second), States(first));
  EXPECT_NE(States(grpc.Decode(Request("")).second), States(grpc.Decode(Request("")).second));
  EXPECT_EQ(grpc.serving.store.puts(), 8);
}

TEST(DecodeRetry, ACallThatWasCutOffIsFinishedByItsRetry) {
  GrpcServing grpc;
  grpc.serving.store.FailPutsAfter(1, QuotaError("state store bytes", "the disk is full", {}));
  const auto [status, first] = grpc.Decode(Request("key"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  ASSERT_EQ(States(first).size(), 1u);
  grpc.serving.store.FailPuts(absl::OkStatus());
  const auto [again_status, again] = grpc.Decode(Request("key"));
  ASSERT_TRUE(again_status.ok()) << again_status.error_message();
  EXPECT_EQ(again.front().start().seed(), first.front().start().seed());
  EXPECT_EQ(Texts(again), Texts(first));
  ASSERT_EQ(States(again).size(), 2u);
  const auto [branch, name] = *States(first).begin();
  EXPECT_EQ(States(again).at(branch), name);
  EXPECT_EQ(grpc.serving.store.puts(), 2);
  EXPECT_EQ(States(grpc.Decode(Request("key")).second), States(again));
}

TEST(DecodeRetry, AStateThatWasDeletedMeanwhileIsMadeAgain) {
  GrpcServing grpc;
  const auto first = grpc.Decode(Request("key")).second;
  ASSERT_TRUE(grpc.serving.store.Delete("default", States(first).at(1).substr(7), "").ok());
  const auto [status, again] = grpc.Decode(Request("key"));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(States(again).at(0), States(first).at(0));
  EXPECT_NE(States(again).at(1), States(first).at(1));
  EXPECT_EQ(grpc.serving.store.puts(), 3);
  // Once.
  EXPECT_EQ(States(grpc.Decode(Request("key")).second), States(again));
  EXPECT_EQ(grpc.serving.store.puts(), 3);
}

TEST(DecodeRetry, TheSameKeyWithOtherContentIsRefused) {
  GrpcServing grpc;
  ASSERT_TRUE(grpc.Decode(Request("key")).first.ok());
  v1::DecodeRequest other = Request("key");
  other.set_max_tokens(13);
  EXPECT_EQ(grpc.Decode(other).first.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  const grpc::Status status = grpc.Decode(Request(std::string(129, 'k'))).first;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(status), ElementsAre("save_state.request_id"));
}

TEST(DecodeRetry, CallsAtTheSameTimeSaveOnce) {
  GrpcServing grpc({.threads = 2, .slots = 4, .max_step_tokens = 16});
  std::vector<std::vector<v1::DecodeResponse>> answers(8);
  std::vector<std::thread> threads;
  for (auto& answer : answers) {
    threads.emplace_back([&grpc, &answer] {
      const auto [status, messages] = grpc.Decode(Request("key"));
      EXPECT_TRUE(status.ok()) << status.error_message();
      answer = messages;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(grpc.serving.store.puts(), 2);
  for (const auto& answer : answers) {
    EXPECT_EQ(Texts(answer), Texts(answers[0]));
    EXPECT_EQ(States(answer), States(answers[0]));
  }
}

TEST(DecodeRetry, ACallerThatLeftIsRetriedWithItsSeed) {
  GrpcServing grpc;
  grpc.serving.store.HoldPuts();
  v1::DecodeStart start;
  {
    grpc::ClientContext context;
    auto reader = grpc.decode->Decode(&context, Request("key"));
    v1::DecodeResponse message;
    ASSERT_TRUE(reader->Read(&message));
    start = message.start();
    grpc.serving.store.WaitForHeldPuts(2);
    context.TryCancel();
    while (reader->Read(&message)) {
    }
    EXPECT_FALSE(reader->Finish().ok());
  }
  grpc.serving.store.ReleasePuts();
  const auto [status, messages] = grpc.Decode(Request("key"));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(messages.front().start().seed(), start.seed());
  // The states were on their way when it left.
  EXPECT_EQ(grpc.serving.store.puts(), 2);
  EXPECT_EQ(States(messages).size(), 2u);
}

TEST(DecodeRetry, ACallerThatLeavesWhileItWaitsIsNotKept) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 16});
  grpc.serving.store.HoldPuts();
  grpc::ClientContext first_context;
  auto first = grpc.decode->Decode(&first_context, Request("key"));
  grpc.serving.store.WaitForHeldPuts(2);
  // Seventeen that come and leave: no more than sixteen may wait at once.
  for (int i = 0; i < 17; ++i) {
    grpc::ClientContext context;
    auto retry = grpc.decode->Decode(&context, Request("key"));
    context.TryCancel();
    EXPECT_EQ(retry->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  // In a batch, whose other decodes are told.
  {
    grpc::ClientContext context;
    auto batch = grpc.decode->DecodeBatch(&context);
    v1::DecodeBatchRequest message;
    message.set_id("waits");
    *message.mutable_request() = Request("key");
    ASSERT_TRUE(batch->Write(message));
    ASSERT_TRUE(batch->Write(v1::DecodeBatchRequest()));  // ends the stream
    const auto [status, decodes] = GrpcServing::ReadBatch(*batch);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(decodes.at("waits").error.code(), grpc::StatusCode::CANCELLED);
  }
  grpc.serving.store.ReleasePuts();
  std::vector<v1::DecodeResponse> messages;
  for (v1::DecodeResponse message; first->Read(&message);) messages.push_back(message);
  EXPECT_TRUE(first->Finish().ok());
  EXPECT_EQ(States(grpc.Decode(Request("key")).second), States(messages));
  EXPECT_EQ(grpc.serving.store.puts(), 2);
}

TEST(DecodeRetry, StatesOfAnotherBackboneAreNotNamed) {
  auto memory = std::make_shared<RequestMemory>();
  uint64_t seed = 1;
  std::shared_ptr<DecodeRetry> retry;
  memory->Enter({"t", "Decode", "key"}, "content", [&](auto admission) {
    retry = DecodeRetry::Begin(*std::move(admission), {"backbone", "fp32"}, &seed).value();
  });
  retry->Saved(0, "s1");
  retry.reset();
  const auto again = [&](const DecodeRetry::Backbone& backbone) {
    absl::Status status;
    uint64_t drawn = 2;
    memory->Enter({"t", "Decode", "key"}, "content", [&](auto admission) {
      const auto result = DecodeRetry::Begin(*std::move(admission), backbone, &drawn);
      status = result.status();
      if (result.ok()) {
        EXPECT_EQ((*result)->Known(0), "s1");
      }
    });
    EXPECT_EQ(drawn, 1u);
    return status;
  };
  EXPECT_EQ(again({"other", "fp32"}).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(again({"backbone", "bf16"}).code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(again({"backbone", "fp32"}).ok());
}

}  // namespace
}  // namespace dreamstate::server
