#include "server/inference/decode_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/server/inference/grpc_fixture.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::DecodeBatchRequest Request(const std::string& id, const std::string& prompt,
                               int max_tokens = 8) {
  v1::DecodeBatchRequest message;
  message.set_id(id);
  v1::DecodeRequest& request = *message.mutable_request();
  request.mutable_prompt()->set_text(prompt);
  request.set_max_tokens(max_tokens);
  request.mutable_sampling()->set_seed(5);
  // The random model's own ends would come by chance.
  request.mutable_sampling()->add_logit_bias()->set_token_id(kEnd);
  request.mutable_sampling()->mutable_logit_bias(0)->set_bias(-100);
  return message;
}

grpc::Status AsGrpc(const google::rpc::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message(),
          status.SerializeAsString()};
}

TEST(DecodeBatch, ManyDecodesOverOneStreamEqualSingleOnesToTheBit) {
  GrpcServing grpc({.threads = 2, .slots = 8, .max_step_tokens = 32});
  std::vector<v1::DecodeBatchRequest> requests;
  for (int i = 0; i < 60; ++i) {
    v1::DecodeBatchRequest message =
        Request("decode " + std::to_string(i),
                std::string(static_cast<size_t>(i * 3), 'p') + "rompt", 1 + i % 23);
    v1::DecodeRequest& request = *message.mutable_request();
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(i));
    request.set_branches(1 + i % 5);
    if (i % 3 == 0) request.set_top_log_probs(2);
    if (i % 7 == 0) request.mutable_save_state();
    requests.push_back(message);
  }
  const auto [status, decodes] = grpc.Batch(requests);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(decodes.size(), requests.size());
  for (const v1::DecodeBatchRequest& request : requests) {
    SCOPED_TRACE(request.id());
    const GrpcServing::Batched& batched = decodes.at(request.id());
    EXPECT_EQ(batched.ends, 1);
    EXPECT_EQ(batched.error.code(), 0);
    ASSERT_TRUE(batched.messages.front().has_start());
    const auto [single_status, single] = grpc.Decode(request.request());
    ASSERT_TRUE(single_status.ok());
    const auto a = Branches(batched.messages), b = Branches(single);
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [index, branch] : b) {
      EXPECT_EQ(a.at(index).raw, branch.raw);
      EXPECT_EQ(a.at(index).tokens, branch.tokens);
      EXPECT_EQ(a.at(index).log_probs, branch.log_probs);
      EXPECT_EQ(a.at(index).finishes, 1);
      if (!branch.finish.has_saved_state()) continue;
      const auto id = [](const BranchText& text) {
        return text.finish.saved_state().name().substr(7);
      };
      EXPECT_EQ(grpc.serving.Stored(id(a.at(index))).record->state,
                grpc.serving.Stored(id(branch)).record->state);
    }
  }
}

TEST(DecodeBatch, ADecodeThatFailsSaysWhatDecodeWouldAndTheOthersGoOn) {
  GrpcServing grpc;
  std::vector<v1::DecodeBatchRequest> requests = {Request("first", "fine")};
  const std::vector<std::function<void(v1::DecodeRequest&)>> spoil = {
      [](auto& r) { r.set_branches(-1); },
      [](auto& r) { r.set_model("tiny"); },
      [](auto& r) { r.set_model("models/unknown"); },
      [](auto& r) { r.mutable_source()->set_state("states/missing"); },
      [](auto& r) { r.mutable_prompt()->set_text("a\x01"); },
      [](auto& r) { r.mutable_save_state()->set_request_id(std::string(129, 'x')); },
  };
  for (size_t i = 0; i < spoil.size(); ++i) {
    requests.push_back(Request(std::to_string(i), "fine"));
    spoil[i](*requests.back().mutable_request());
  }
  requests.push_back(Request("nothing", ""));
  requests.back().clear_request();
  requests.push_back(Request("last", "fine"));
  const auto [status, decodes] = grpc.Batch(requests);
  EXPECT_TRUE(status.ok()) << status.error_message();
  for (size_t i = 0; i < spoil.size(); ++i) {
    const grpc::Status batched = AsGrpc(decodes.at(std::to_string(i)).error);
    const grpc::Status single = grpc.Decode(requests[i + 1].request()).first;
    EXPECT_NE(single.error_code(), grpc::StatusCode::OK);
    EXPECT_EQ(batched.error_code(), single.error_code());
    EXPECT_EQ(batched.error_message(), single.error_message());
    EXPECT_EQ(batched.error_details(), single.error_details());
  }
  EXPECT_THAT(FieldsOf(AsGrpc(decodes.at("nothing").error)), ElementsAre("request"));
  for (const char* id : {"first", "last"}) {
    EXPECT_EQ(decodes.at(id).error.code(), 0);
    EXPECT_EQ(Branches(decodes.at(id).messages).at(0).finishes, 1);
  }
}

TEST(DecodeBatch, AnIdThatIsNoneEndsTheStream) {
  GrpcServing grpc({.slots = 2, .max_step_tokens = 16});
  for (const std::string& id : {std::string(), std::string(257, 'x'), std::string("runs")}) {
    const auto [status, decodes] =
        grpc.Batch({Request("runs", "x", 1 << 20), Request(id, "x"), Request("never", "x")});
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(FieldsOf(status), ElementsAre("id"));
    EXPECT_EQ(decodes.count("never"), 0u);
  }
  // An id is free again after its decode's end.
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(stream->Write(Request(std::string(256, 'x'), "again", 2)));
    v1::DecodeBatchResponse message;
    do {
      ASSERT_TRUE(stream->Read(&message));
    } while (!message.has_done());
  }
  stream->WritesDone();
  EXPECT_TRUE(GrpcServing::ReadBatch(*stream).first.ok());
}

TEST(DecodeBatch, WhatWasMadeIsToldAlsoWhenALaterMessageEndsTheStream) {
  GrpcServing grpc({.slots = 8, .max_step_tokens = 32},
                   [](RequestLimits& limits) { limits.batch_queue_messages = 1 << 20; });
  const auto running = [&] { return grpc.serving.session->scheduler->Snapshot().running.size(); };
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  // More than the transport holds, so that what follows waits in the stream's own queue.
  v1::DecodeBatchRequest large = Request("large", "x", 10'000);
  large.mutable_request()->set_top_log_probs(20);
  large.mutable_request()->mutable_save_state();
  v1::DecodeBatchRequest saved = Request("saved", "x", 2);
  saved.mutable_request()->mutable_save_state();
  ASSERT_TRUE(stream->Write(large));
  while (grpc.serving.store.puts() < 1 || running() > 0) std::this_thread::yield();
  ASSERT_TRUE(stream->Write(Request("runs", "x", 1 << 20)));
  while (running() < 1) std::this_thread::yield();
  ASSERT_TRUE(stream->Write(saved));
  while (grpc.serving.store.puts() < 2 || running() > 1) std::this_thread::yield();

  ASSERT_TRUE(stream->Write(Request("", "x")));
  while (running() > 0) std::this_thread::yield();
  const auto [status, decodes] = GrpcServing::ReadBatch(*stream);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(status), ElementsAre("id"));
  ASSERT_EQ(decodes.count("saved"), 1u);
  EXPECT_TRUE(Branches(decodes.at("saved").messages).at(0).finish.has_saved_state());
  EXPECT_EQ(decodes.at("saved").ends, 1);
}

TEST(DecodeBatch, CancellingTheStreamFreesEverySlot) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 16});
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(stream->Write(Request(std::to_string(i), "x", 1 << 20)));
  }
  v1::DecodeBatchResponse message;
  ASSERT_TRUE(stream->Read(&message));
  context.TryCancel();
  EXPECT_EQ(GrpcServing::ReadBatch(*stream).first.error_code(), grpc::StatusCode::CANCELLED);
  // All slots are needed, so this is answered only when they are free.
  v1::DecodeRequest request = Request("", "next", 2).request();
  request.set_branches(4);
  EXPECT_TRUE(grpc.Decode(request).first.ok());
}

TEST(DecodeBatch, OneStreamLeavesSlotsAndPlacesInTheLineToOthers) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 16, .max_waiting = 4});
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(stream->Write(Request(std::to_string(i), "x", 1 << 20)));
  }
  v1::DecodeBatchResponse message;
  ASSERT_TRUE(stream->Read(&message));
  v1::DecodeRequest request = Request("", "quick", 20).request();
  request.set_branches(2);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(grpc.Decode(request).first.ok());
  const SchedulerSnapshot snapshot = grpc.serving.session->scheduler->Snapshot();
  EXPECT_LE(snapshot.running.size() + snapshot.waiting.size(), 2u);
  context.TryCancel();
  EXPECT_EQ(GrpcServing::ReadBatch(*stream).first.error_code(), grpc::StatusCode::CANCELLED);
  // One that wants more than the share goes alone.
  v1::DecodeBatchRequest wide = Request("wide", "x", 3);
  wide.mutable_request()->set_branches(4);
  const auto [status, decodes] = grpc.Batch({Request("a", "x"), wide, Request("b", "x")});
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(Branches(decodes.at("wide").messages).size(), 4u);
}

TEST(DecodeBatch, NoMoreDecodesAreTakenThanMayBeInFlight) {
  GrpcServing grpc({.slots = 8, .max_step_tokens = 16},
                   [](RequestLimits& limits) { limits.batch_decodes_in_flight = 3; });
  grpc.serving.store.HoldPuts();
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  for (int i = 0; i < 9; ++i) {
    v1::DecodeBatchRequest request = Request(std::to_string(i), "x", 2);
    request.mutable_request()->mutable_save_state();
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  // As many as the executor has threads.
  grpc.serving.store.WaitForHeldPuts(2);
  EXPECT_LE(grpc.serving.session->scheduler->Snapshot().running.size(), 3u);
  grpc.serving.store.ReleasePuts();
  const auto [status, decodes] = GrpcServing::ReadBatch(*stream);
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(decodes.size(), 9u);
  EXPECT_EQ(grpc.serving.store.puts(), 9);
}

TEST(DecodeBatch, AReaderThatDoesNotReadPausesItsOwnDecodesOnly) {
  GrpcServing grpc({.slots = 4, .max_step_tokens = 16},
                   [](RequestLimits& limits) { limits.batch_queue_messages = 4; });
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  for (const char* id : {"a", "b", "c"}) {
    v1::DecodeBatchRequest request = Request(id, "x", 4000);
    request.mutable_request()->set_top_log_probs(20);
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  v1::DecodeBatchResponse message;
  ASSERT_TRUE(stream->Read(&message));
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(grpc.Decode(Request("", "quick", 200).request()).first.ok());
  }
  EXPECT_EQ(grpc.serving.session->scheduler->Snapshot().running.size(), 2u);
  const auto [status, decodes] = GrpcServing::ReadBatch(*stream);
  EXPECT_TRUE(status.ok());
  for (const auto& [id, decode] : decodes) {
    EXPECT_EQ(Branches(decode.messages).at(0).finish.generated_tokens(), 4000) << id;
  }
}

TEST(DecodeBatch, AReaderThatStopsReadingIsEnded) {
  ManualClock clock;
  GrpcServing grpc(
      {.slots = 4, .max_step_tokens = 16},
      [](RequestLimits& limits) { limits.batch_queue_messages = 4; }, clock);
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  for (const char* id : {"a", "b", "c"}) {
    v1::DecodeBatchRequest request = Request(id, "x", 1 << 20);
    request.mutable_request()->set_top_log_probs(20);
    ASSERT_TRUE(stream->Write(request));
  }
  // All slots are free only when the stream's decodes have ended.
  v1::DecodeRequest all = Request("", "all", 2).request();
  all.set_branches(4);
  std::atomic<bool> answered = false;
  std::thread other([&] {
    EXPECT_TRUE(grpc.Decode(all).first.ok());
    answered = true;
  });
  while (!answered) {
    clock.Advance(absl::Seconds(11));
    grpc.serving.session->scheduler->waker()->Wake();
    std::this_thread::yield();
  }
  other.join();
  const grpc::Status status = GrpcServing::ReadBatch(*stream).first;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("nothing was read for 30s"));
}

TEST(DecodeBatch, ADrainLetsRunningDecodesFinishAndEndsTheStream) {
  GrpcServing grpc({.slots = 2, .max_step_tokens = 16});
  grpc.serving.store.HoldPuts();
  grpc::ClientContext context, idle_context;
  auto idle = grpc.decode->DecodeBatch(&idle_context);
  auto stream = grpc.decode->DecodeBatch(&context);
  v1::DecodeBatchRequest runs = Request("runs", "x", 2);
  runs.mutable_request()->mutable_save_state();
  ASSERT_TRUE(stream->Write(runs));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream->Write(Request(std::to_string(i), "x", 2)));
  grpc.serving.store.WaitForHeldPuts(1);
  grpc.streams.BeginDrain();
  grpc.serving.session->scheduler->BeginDrain();
  EXPECT_EQ(GrpcServing::ReadBatch(*idle).first.error_code(), grpc::StatusCode::UNAVAILABLE);
  grpc.serving.store.ReleasePuts();
  // It was not half-closed.
  const auto [status, decodes] = GrpcServing::ReadBatch(*stream);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(decodes.at("runs").error.code(), 0);
  EXPECT_EQ(decodes.at("runs").ends, 1);
  for (const auto& [id, decode] : decodes) {
    if (id != "runs") {
      EXPECT_EQ(decode.error.code(), grpc::StatusCode::UNAVAILABLE) << id;
    }
  }
}

TEST(DecodeBatch, ASilentStreamIsEnded) {
  ManualClock clock;
  GrpcServing grpc(
      {}, [](RequestLimits& limits) { limits.reader_stall = absl::Hours(100); }, clock);
  grpc::ClientContext context;
  auto stream = grpc.decode->DecodeBatch(&context);
  ASSERT_TRUE(stream->Write(Request("a", "x", 2)));
  v1::DecodeBatchResponse message;
  do {
    ASSERT_TRUE(stream->Read(&message));
  } while (!message.has_done());
  grpc::Status status;
  std::atomic<bool> ended = false;
  std::thread reader([&] {
    status = GrpcServing::ReadBatch(*stream).first;
    ended = true;
  });
  while (!ended) {
    clock.Advance(absl::Seconds(61));
    grpc.streams.VisitAll();
    std::this_thread::yield();
  }
  reader.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "stream writer: nothing was sent for 1m");
}

// Many streams at once, cut off at any moment: nothing is lost, nothing leaks, serving goes on.
TEST(DecodeBatch, StreamsThatAreCutOffAnywhereLeaveNothingBehind) {
  GrpcServing grpc({.threads = 2, .slots = 6, .max_step_tokens = 32});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&grpc, t] {
      for (int round = 0; round < 12; ++round) {
        grpc::ClientContext context;
        auto stream = grpc.decode->DecodeBatch(&context);
        for (int i = 0; i < 8; ++i) {
          v1::DecodeBatchRequest request = Request(std::to_string(i), "prompt", 5 + 20 * (i % 3));
          if (i == 5) request.mutable_request()->set_branches(-1);
          if (!stream->Write(request)) break;
        }
        v1::DecodeBatchResponse message;
        const int reads = (t * 12 + round) * 7 % 60;
        for (int i = 0; i < reads; ++i) {
          if (!stream->Read(&message)) break;
        }
        if (round % 3 != 0) {
          context.TryCancel();
        } else {
          stream->WritesDone();
        }
        const auto [status, decodes] = GrpcServing::ReadBatch(*stream);
        EXPECT_EQ(status.ok(), round % 3 == 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  v1::DecodeRequest all = Request("", "all", 2).request();
  all.set_branches(6);
  EXPECT_TRUE(grpc.Decode(all).first.ok());
  EXPECT_EQ(grpc.serving.session->scheduler->Snapshot().free_slots.size(), 6u);
}

}  // namespace
}  // namespace dreamstate::server
