#include "server/inference/decode_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "server/inference/state_messages.h"
#include "tests/server/inference/grpc_fixture.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::DecodeRequest Request(const std::string& prompt, int max_tokens = 8) {
  v1::DecodeRequest request;
  request.mutable_prompt()->set_text(prompt);
  request.set_max_tokens(max_tokens);
  request.mutable_sampling()->set_seed(5);
  return request;
}

// The tensors of an empty state of the test's model.
v1::StateTensors Tensors() {
  state::Record record;
  record.fingerprint = TestWeights()->fingerprint;
  record.state = state::State::Empty(state::Shape::Of(TestWeights()->config));
  return ToTensorsMessage(record);
}

TEST(DecodeService, StreamsStartPiecesAndFinish) {
  GrpcServing grpc;
  v1::DecodeRequest request = Request("hello", 20);
  request.set_branches(2);
  const auto [status, messages] = grpc.Decode(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_TRUE(messages.front().has_start());
  const std::map<int, BranchText> branches = Branches(messages);
  ASSERT_EQ(branches.size(), 2u);
  for (const auto& [index, branch] : branches) EXPECT_EQ(branch.finishes, 1);
}

TEST(DecodeService, ADrawnSeedIsReturnedAndRepeatsTheText) {
  GrpcServing grpc;
  v1::DecodeRequest request = Request("hello", 20);
  request.mutable_sampling()->clear_seed();
  const auto [status, messages] = grpc.Decode(request);
  ASSERT_TRUE(status.ok());
  const uint64_t seed = messages.front().start().seed();
  request.mutable_sampling()->set_seed(seed);
  const auto [again_status, again] = grpc.Decode(request);
  EXPECT_EQ(Branches(again).at(0).raw, Branches(messages).at(0).raw);
}

TEST(DecodeService, ContinuesFromASavedStateByName) {
  GrpcServing grpc;
  v1::DecodeRequest request = Request("hello", 6);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_save_state()->mutable_annotations()->add_labels("kept");
  const auto [status, messages] = grpc.Decode(request);
  ASSERT_TRUE(status.ok());
  const v1::State saved = Branches(messages).at(0).finish.saved_state();
  EXPECT_THAT(saved.labels(), ElementsAre("kept"));
  v1::DecodeRequest next = Request("", 6);
  next.mutable_source()->set_state(saved.name());
  const auto [next_status, next_messages] = grpc.Decode(next);
  ASSERT_TRUE(next_status.ok());
  EXPECT_EQ(next_messages.front().start().reused_tokens(), saved.token_count());
  EXPECT_EQ(next_messages.front().start().prompt_tokens(), 0);
}

TEST(DecodeService, ScoresFromAnInlineState) {
  GrpcServing grpc;
  v1::ScoreRequest request;
  *request.mutable_source()->mutable_tensors() = Tensors();
  request.mutable_target()->set_text("some text");
  request.set_per_token(true);
  const auto [status, response] = grpc.Score(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_version(), "models/tiny/versions/3");
  EXPECT_EQ(response.target_tokens(), 9);
  EXPECT_EQ(response.target_bytes(), 9);
  ASSERT_EQ(response.token_nats_size(), 9);
  EXPECT_NEAR(response.bits_per_byte(), response.total_nats() / std::log(2.0) / 9, 1e-12);
  // An empty state that was sent is the empty state.
  v1::ScoreRequest plain = request;
  plain.clear_source();
  EXPECT_EQ(grpc.Score(plain).second.total_nats(), response.total_nats());
}

TEST(DecodeService, AStateOfAnotherModelIsRefusedWithBothFingerprints) {
  GrpcServing grpc;
  const std::string other(64, 'a');
  v1::DecodeRequest request = Request("x");
  *request.mutable_source()->mutable_tensors() = Tensors();
  request.mutable_source()->mutable_tensors()->set_backbone_fingerprint(other);
  const auto [status, messages] = grpc.Decode(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr(other.substr(0, 12)));
  EXPECT_THAT(status.error_message(), HasSubstr(TestWeights()->fingerprint.substr(0, 12)));

  state::Record record;
  record.fingerprint = other;
  record.state = state::State::Empty(state::Shape::Of(TestWeights()->config));
  ASSERT_TRUE(grpc.serving.store.Put("default", record, {}).ok());
  v1::ScoreRequest score;
  score.mutable_source()->set_state("states/s1");
  score.mutable_target()->set_text("x");
  const grpc::Status score_status = grpc.Score(score).first;
  EXPECT_EQ(score_status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(score_status.error_message(), HasSubstr(other.substr(0, 12)));
}

TEST(DecodeService, MalformedDecodesNameTheField) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 64});
  struct Case {
    std::string field;
    std::function<void(v1::DecodeRequest&)> change;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<Case> cases = {
      {"model", [](auto& r) { r.set_model("tiny"); }},
      {"source.state", [](auto& r) { r.mutable_source()->set_state("s1"); }},
      {"source.state", [](auto& r) { r.mutable_source()->set_state("states/../x"); }},
      {"source.tensors.shape", [](auto& r) { r.mutable_source()->mutable_tensors(); }},
      {"source.tensors.shape",
       [](auto& r) {
         *r.mutable_source()->mutable_tensors() = Tensors();
         r.mutable_source()->mutable_tensors()->mutable_shape()->set_layers(1 << 30);
       }},
      {"source.tensors.backbone_fingerprint",
       [](auto& r) {
         *r.mutable_source()->mutable_tensors() = Tensors();
         r.mutable_source()->mutable_tensors()->set_backbone_fingerprint("abc");
       }},
      {"source.tensors.shift",
       [](auto& r) {
         *r.mutable_source()->mutable_tensors() = Tensors();
         r.mutable_source()->mutable_tensors()->mutable_shift()->pop_back();
       }},
      {"source.tensors.wkv",
       [nan](auto& r) {
         *r.mutable_source()->mutable_tensors() = Tensors();
         std::memcpy(r.mutable_source()->mutable_tensors()->mutable_wkv()->data(), &nan, 4);
       }},
      {"source.tensors.last_hidden",
       [](auto& r) {
         *r.mutable_source()->mutable_tensors() = Tensors();
         r.mutable_source()->mutable_tensors()->set_last_hidden("1234");
       }},
      {"source.tensors.token_count",
       [](auto& r) {
         *r.mutable_source()->mutable_tensors() = Tensors();
         r.mutable_source()->mutable_tensors()->set_token_count(-1);
       }},
      {"prompt.text", [](auto& r) { r.mutable_prompt()->set_text(std::string("ab\0c", 4)); }},
      {"prompt.raw", [](auto& r) { r.mutable_prompt()->set_raw("\x01"); }},
      {"prompt.tokens.ids[1]",
       [](auto& r) {
         r.mutable_prompt()->mutable_tokens()->add_ids(3);
         r.mutable_prompt()->mutable_tokens()->add_ids(256);
       }},
      {"prompt.tokens.ids[0]", [](auto& r) { r.mutable_prompt()->mutable_tokens()->add_ids(-1); }},
      {"prompt.text",
       [](auto& r) { r.mutable_prompt()->set_text(std::string((1 << 20) + 1, 'a')); }},
      {"branches", [](auto& r) { r.set_branches(-1); }},
      {"branches", [](auto& r) { r.set_branches(5); }},
      {"sampling.temperature", [](auto& r) { r.mutable_sampling()->set_temperature(10.5f); }},
      {"sampling.temperature", [nan](auto& r) { r.mutable_sampling()->set_temperature(nan); }},
      {"sampling.top_k", [](auto& r) { r.mutable_sampling()->set_top_k(-1); }},
      {"sampling.top_p", [](auto& r) { r.mutable_sampling()->set_top_p(1.5f); }},
      {"sampling.min_p", [](auto& r) { r.mutable_sampling()->set_min_p(1.0f); }},
      {"sampling.presence_penalty",
       [](auto& r) { r.mutable_sampling()->set_presence_penalty(11); }},
      {"sampling.frequency_penalty",
       [inf](auto& r) { r.mutable_sampling()->set_frequency_penalty(-inf); }},
      {"sampling.penalty_decay", [](auto& r) { r.mutable_sampling()->set_penalty_decay(1.1f); }},
      {"sampling.logit_bias[0].token_id",
       [](auto& r) { r.mutable_sampling()->add_logit_bias()->set_token_id(256); }},
      {"sampling.logit_bias[0].bias",
       [](auto& r) { r.mutable_sampling()->add_logit_bias()->set_bias(101); }},
      {"sampling.logit_bias",
       [](auto& r) {
         for (int i = 0; i < 1025; ++i) r.mutable_sampling()->add_logit_bias()->set_token_id(i);
       }},
      {"max_tokens", [](auto& r) { r.set_max_tokens(-1); }},
      {"max_tokens", [](auto& r) { r.set_max_tokens((1 << 20) + 1); }},
      {"stop[1]",
       [](auto& r) {
         r.add_stop(std::string("fine"));
         r.add_stop(std::string());
       }},
      {"stop[0]", [](auto& r) { r.add_stop(std::string(257, 's')); }},
      {"stop",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_stop(std::string("s"));
       }},
      {"top_log_probs", [](auto& r) { r.set_top_log_probs(21); }},
      {"top_log_probs", [](auto& r) { r.set_top_log_probs(-1); }},
      {"save_state.annotations.labels[0]",
       [](auto& r) { r.mutable_save_state()->mutable_annotations()->add_labels(""); }},
      {"save_state.annotations.time_to_live",
       [](auto& r) {
         r.mutable_save_state()->mutable_annotations()->mutable_time_to_live()->set_seconds(-1);
       }},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    v1::DecodeRequest request = Request("fine");
    cases[i].change(request);
    const auto [status, messages] = grpc.Decode(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << "case " << i << ": " << status.error_message();
    EXPECT_THAT(FieldsOf(status), ElementsAre(cases[i].field))
        << "case " << i << ": " << status.error_message();
  }
  // A duplicate bias names one of the two.
  v1::DecodeRequest twice = Request("fine");
  twice.mutable_sampling()->add_logit_bias()->set_token_id(7);
  twice.mutable_sampling()->add_logit_bias()->set_token_id(7);
  EXPECT_EQ(grpc.Decode(twice).first.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(grpc.Decode(Request("still serving")).first.ok());
}

TEST(DecodeService, MalformedScoresNameTheField) {
  GrpcServing grpc;
  struct Case {
    std::string field;
    std::function<void(v1::ScoreRequest&)> change;
  };
  const std::vector<Case> cases = {
      {"target", [](auto& r) { r.clear_target(); }},
      {"target", [](auto& r) { r.mutable_target()->set_text(""); }},
      {"target.text", [](auto& r) { r.mutable_target()->set_text("x\x01"); }},
      {"target.tokens.ids[0]", [](auto& r) { r.mutable_target()->mutable_tokens()->add_ids(999); }},
      {"context.raw", [](auto& r) { r.mutable_context()->set_raw(std::string(1, '\0')); }},
      {"source.state", [](auto& r) { r.mutable_source()->set_state("nothing"); }},
      {"model", [](auto& r) { r.set_model("x"); }},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    v1::ScoreRequest request;
    request.mutable_target()->set_text("fine");
    cases[i].change(request);
    const grpc::Status status = grpc.Score(request).first;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << "case " << i;
    EXPECT_THAT(FieldsOf(status), ElementsAre(cases[i].field)) << "case " << i;
  }
}

TEST(DecodeService, ReservedTokensInTextAreRefusedWithTheirOffset) {
  GrpcServing grpc;
  v1::DecodeRequest request = Request("abc\x01");
  EXPECT_THAT(grpc.Decode(request).first.error_message(), HasSubstr("separator token 1 at byte 3"));
  // As tokens they are allowed.
  request.mutable_prompt()->mutable_tokens()->add_ids(kSeparator);
  EXPECT_TRUE(grpc.Decode(request).first.ok());
}

TEST(DecodeService, UnknownModelsAndStatesAreNotFound) {
  GrpcServing grpc;
  v1::DecodeRequest request = Request("x");
  request.set_model("models/other");
  EXPECT_EQ(grpc.Decode(request).first.error_code(), grpc::StatusCode::NOT_FOUND);
  request.clear_model();
  request.mutable_source()->set_state("states/missing");
  EXPECT_EQ(grpc.Decode(request).first.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(DecodeService, ADisconnectFreesTheSlots) {
  GrpcServing grpc({.slots = 2, .max_step_tokens = 16});
  v1::DecodeRequest request = Request("x", 1 << 20);
  request.set_branches(2);
  request.mutable_sampling()->add_logit_bias()->set_token_id(kEnd);
  request.mutable_sampling()->mutable_logit_bias(0)->set_bias(-100);
  {
    grpc::ClientContext context;
    auto reader = grpc.decode->Decode(&context, request);
    v1::DecodeResponse message;
    ASSERT_TRUE(reader->Read(&message));
    context.TryCancel();
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  // Both slots are needed, so this is answered only when they are free.
  request.set_max_tokens(2);
  EXPECT_TRUE(grpc.Decode(request).first.ok());
}

TEST(DecodeService, ADeadlineEndsTheCall) {
  GrpcServing grpc({.slots = 1, .max_step_tokens = 16});
  v1::DecodeRequest request = Request("x", 1 << 20);
  request.mutable_sampling()->add_logit_bias()->set_token_id(kEnd);
  request.mutable_sampling()->mutable_logit_bias(0)->set_bias(-100);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  auto reader = grpc.decode->Decode(&context, request);
  v1::DecodeResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(grpc.Decode(Request("next", 2)).first.ok());
}

TEST(DecodeService, AReaderThatDoesNotReadPausesItsDecode) {
  GrpcServing grpc({.slots = 2, .max_step_tokens = 16},
                   [](RequestLimits& limits) { limits.stream_queue_messages = 4; });
  v1::DecodeRequest request = Request("x", 8000);
  request.set_top_log_probs(20);
  request.mutable_sampling()->add_logit_bias()->set_token_id(kEnd);
  request.mutable_sampling()->mutable_logit_bias(0)->set_bias(-100);
  grpc::ClientContext context;
  auto reader = grpc.decode->Decode(&context, request);
  v1::DecodeResponse message;
  ASSERT_TRUE(reader->Read(&message));
  // The other slot goes on serving meanwhile.
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(grpc.Decode(Request("quick", 200)).first.ok());
  EXPECT_EQ(grpc.serving.session->scheduler->Snapshot().running.size(), 1u);
  int pieces = 0;
  while (reader->Read(&message)) pieces += message.has_piece() ? 1 : 0;
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(message.has_finish());
  EXPECT_EQ(message.finish().generated_tokens(), 8000);
  EXPECT_GT(pieces, 0);
}

TEST(DecodeService, SavedStatesAreNamedAlsoWhenAnotherBranchsSaveFails) {
  GrpcServing grpc({.slots = 8, .max_step_tokens = 16});
  grpc.serving.store.FailPutsAfter(7, QuotaError("state store bytes", "the disk is full", {}));
  v1::DecodeRequest request = Request("x", 4);
  request.set_branches(8);
  request.mutable_save_state();
  const auto [status, messages] = grpc.Decode(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("the disk is full"));
  int named = 0;
  for (const auto& [index, branch] : Branches(messages)) {
    named += branch.finish.has_saved_state() ? 1 : 0;
  }
  EXPECT_EQ(named, 7);
}

TEST(DecodeService, ManyCallersAtOnceAreAllAnswered) {
  GrpcServing grpc({.threads = 2, .slots = 4, .max_step_tokens = 16});
  const std::string expected = Branches(grpc.Decode(Request("same", 30)).second).at(0).raw;
  std::vector<std::thread> threads;
  std::vector<std::string> answers(12);
  for (std::string& answer : answers) {
    threads.emplace_back(
        [&grpc, &answer] { answer = Branches(grpc.Decode(Request("same", 30)).second).at(0).raw; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(answers, ::testing::Each(expected));
}

}  // namespace
}  // namespace dreamstate::server
