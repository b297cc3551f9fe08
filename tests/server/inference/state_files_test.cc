// UploadState and DownloadState.
#include <atomic>
#include <limits>
#include <thread>

#include "core/base/hash.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/server/inference/state_serving.h"

namespace dreamstate::server {
namespace {

using google::protobuf::util::MessageDifferencer;
using grpc::StatusCode;
using ::testing::ElementsAre;
using testing::FieldOf;
using testing::FindDetail;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StateFiles : public ::testing::Test {
 protected:
  std::string File(const state::Record& record, state::Layout layout,
                   std::optional<tensors::DType> dtype = {}) {
    return state::WriteStateFile(record, layout, dtype).value();
  }
  std::string Canonical(uint32_t seed) {
    return File(states_.MakeRecord(seed), state::Layout::kCanonical);
  }
  std::shared_ptr<const state::Record> Stored(const v1::State& state) {
    return states_.store->Get("default", state.name().substr(7)).value();
  }
  static const google::protobuf::Map<std::string, google::protobuf::Value>& Arguments(
      const v1::State& state) {
    return state.lineage().arguments().fields();
  }
  int64_t StatesStored() { return states_.store->Stats().states; }

  StateServing states_;
};

TEST_F(StateFiles, AFileOfEveryLayoutComesBackAsItWas) {
  const state::Record record = states_.MakeRecord(1);
  const struct {
    v1::StateLayout layout;
    state::Layout file_layout;
    const char* ending;
  } table[] = {{v1::DREAMSTATE, state::Layout::kRecord, ".safetensors"},
               {v1::CANONICAL, state::Layout::kCanonical, ".bin"},
               {v1::RWKV_PACKAGE, state::Layout::kRwkvPackage, ".pth"},
               {v1::TIME_STATE, state::Layout::kTimeState, ".pth"}};
  for (const auto& row : table) {
    SCOPED_TRACE(v1::StateLayout_Name(row.layout));
    for (const bool told : {false, true}) {
      v1::UploadOptions options;
      if (told) options.set_layout(row.layout);
      const std::string file = File(record, row.file_layout, tensors::DType::kF32);
      v1::State state;
      const grpc::Status status = states_.Upload(options, file, &state, 10'000);
      ASSERT_TRUE(status.ok()) << status.error_message();
      EXPECT_EQ(state.model(), "models/tiny");
      EXPECT_EQ(state.backbone_fingerprint(), record.fingerprint);
      EXPECT_EQ(state.lineage().operation(), "upload");
      EXPECT_THAT(state.lineage().parents(), IsEmpty());
      EXPECT_EQ(Arguments(state).at("layout").string_value(), state::LayoutName(row.file_layout));
      EXPECT_EQ(Arguments(state).at("dtype").string_value(), "f32");
      EXPECT_EQ(Arguments(state).at("file_sha256").string_value(), Sha256Hex(file));
      const auto stored = Stored(state);
      EXPECT_EQ(stored->state.wkv, record.state.wkv);
      if (row.layout != v1::TIME_STATE) {
        EXPECT_EQ(stored->state.shift, record.state.shift);
      }
      EXPECT_EQ(state.has_last_hidden(), row.layout == v1::DREAMSTATE);

      const auto downloaded = states_.Download(state.name(), row.layout, v1::FLOAT32);
      ASSERT_TRUE(downloaded.status.ok()) << downloaded.status.error_message();
      EXPECT_EQ(downloaded.header.state().name(), state.name());
      EXPECT_EQ(downloaded.header.bytes(), static_cast<int64_t>(downloaded.file.size()));
      EXPECT_EQ(downloaded.header.sha256(), Sha256Hex(downloaded.file));
      EXPECT_EQ(downloaded.header.file_name(), state.name().substr(7) + row.ending);
      if (row.layout != v1::DREAMSTATE) {  // whose metadata names the new state
        EXPECT_EQ(downloaded.file, file);
      }
    }
  }
}

TEST_F(StateFiles, EachDTypeIsWrittenAndReadAgain) {
  const std::string name = states_.Keep(states_.MakeRecord(2));
  const int64_t values = 2 * 2 * 128 + 2 * 2 * 64 * 64;
  for (const auto& [dtype, bytes] :
       {std::pair(v1::FLOAT32, 4), std::pair(v1::BFLOAT16, 2), std::pair(v1::FLOAT16, 2),
        std::pair(v1::STATE_DTYPE_UNSPECIFIED, 4)}) {
    const auto downloaded = states_.Download(name, v1::CANONICAL, dtype);
    ASSERT_TRUE(downloaded.status.ok()) << downloaded.status.error_message();
    EXPECT_EQ(downloaded.header.bytes(), values * bytes);
    v1::UploadOptions options;
    options.set_dtype(dtype);
    v1::State state;
    const grpc::Status status = states_.Upload(options, downloaded.file, &state);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(Stored(state)->state, states_.MakeRecord(2).state);  // values that all dtypes hold
  }
  const auto refused = states_.Download(name, v1::DREAMSTATE, v1::FLOAT16);
  EXPECT_EQ(refused.status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(refused.status), "dtype");
}

TEST_F(StateFiles, WhatTheCallerSaysIsKept) {
  v1::UploadOptions options;
  options.set_model("models/tiny");
  options.set_token_count(77);
  options.mutable_annotations()->add_labels("mine");
  options.mutable_annotations()->mutable_time_to_live()->set_seconds(3600);
  options.set_transposed(true);
  state::Record record = states_.MakeRecord(3);
  v1::State state;
  const grpc::Status status =
      states_.Upload(options, File(record, state::Layout::kTimeState), &state);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(state.token_count(), 77);
  EXPECT_THAT(state.labels(), ElementsAre("mine"));
  EXPECT_TRUE(state.has_expires());
  EXPECT_TRUE(Arguments(state).at("transposed").bool_value());
  EXPECT_EQ(state.numerics(), "");
  const auto stored = Stored(state);
  EXPECT_EQ(stored->state.wkv[1], record.state.wkv[64]);
  EXPECT_EQ(stored->state.wkv[64], record.state.wkv[1]);
}

TEST_F(StateFiles, ARecordKeepsItsTokensItsLastHiddenVectorAndItsStory) {
  state::Record record = states_.MakeRecord(4);
  const std::string parent = states_.Keep(states_.MakeRecord(5));
  record.lineage.parents = {parent.substr(7)};
  const std::string original = states_.Keep(record);
  std::string file = states_.Download(original).file;
  // Over two stations: the story stays that of the first making.
  for (int station = 0; station < 2; ++station) {
    v1::State state;
    const grpc::Status status = states_.Upload({}, file, &state);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_NE(state.name(), original);
    EXPECT_EQ(state.token_count(), 40);
    EXPECT_TRUE(state.has_last_hidden());
    EXPECT_EQ(state.numerics(), "fp32/avx2");
    EXPECT_EQ(state.lineage().operation(), "upload");
    EXPECT_EQ(state.lineage().tokens_read(), 3);
    EXPECT_THAT(state.lineage().kept_tokens(), IsEmpty());  // not in answers
    const auto& story = Arguments(state).at("original").struct_value().fields();
    EXPECT_EQ(story.at("id").string_value(), original.substr(7));
    const auto& lineage = story.at("lineage").struct_value().fields();
    EXPECT_EQ(lineage.at("operation").string_value(), "harvest");
    EXPECT_EQ(lineage.at("parents").list_value().values(0).string_value(), parent.substr(7));
    const auto stored = Stored(state);
    EXPECT_EQ(stored->last_hidden, record.last_hidden);
    EXPECT_THAT(stored->lineage.kept_tokens, ElementsAre(1, 2, 255));
    file = states_.Download(state.name()).file;
  }
}

TEST_F(StateFiles, ARecordOfAnotherBackboneIsRefusedWithBothFingerprints) {
  state::Record record = states_.MakeRecord(1);
  record.fingerprint = std::string(64, 'b');
  v1::State state;
  const grpc::Status status = states_.Upload({}, File(record, state::Layout::kRecord), &state);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  const auto failure = FindDetail<google::rpc::PreconditionFailure>(status);
  ASSERT_TRUE(failure.has_value());
  EXPECT_THAT(failure->violations(0).description(),
              AllOf(HasSubstr(record.fingerprint),
                    HasSubstr(states_.serving.session->weights->fingerprint)));
  EXPECT_EQ(StatesStored(), 0);
}

TEST_F(StateFiles, RecordsThatLieAreRefused) {
  const auto refused = [&](const std::function<void(state::Record&)>& spoil,
                           const v1::UploadOptions& options = {}) {
    state::Record record = states_.MakeRecord(1);
    spoil(record);
    v1::State state;
    const grpc::Status status =
        states_.Upload(options, File(record, state::Layout::kRecord), &state);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    return FieldOf(status);
  };
  EXPECT_EQ(refused([](state::Record& r) { r.lineage.kept_tokens[0] = 7; }), "chunk");
  EXPECT_EQ(refused([](state::Record& r) { r.lineage.tokens_read = 4; }), "chunk");
  EXPECT_EQ(refused([](state::Record& r) {
              r.lineage.kept_tokens = {256};
              r.lineage.tokens_read = 1;
              r.lineage.tokens_sha256 = state::TokensSha256({256});
            }),
            "chunk");
  EXPECT_EQ(refused([](state::Record& r) { r.token_count = int64_t{1} << 54; }), "chunk");
  EXPECT_EQ(refused([](state::Record& r) { r.lineage.arguments["x"] = std::string(200'000, 'x'); }),
            "chunk");
  EXPECT_EQ(refused([](state::Record& r) {
              r.state =
                  state::State::Empty({.layers = 1, .width = 128, .heads = 2, .head_size = 64});
            }),
            "chunk");
  v1::UploadOptions options;
  options.set_token_count(41);
  EXPECT_EQ(refused([](state::Record&) {}, options), "options.token_count");
  EXPECT_EQ(StatesStored(), 0);
}

TEST_F(StateFiles, FilesThatAreNoStatesAreRefusedAndNothingIsStored) {
  state::Record infinite = states_.MakeRecord(1);
  infinite.state.wkv[5] = std::numeric_limits<float>::infinity();
  state::Record other = states_.MakeRecord(1);
  other.state = state::State::Empty({.layers = 3, .width = 128, .heads = 2, .head_size = 64});
  std::string damaged = File(states_.MakeRecord(1), state::Layout::kRecord);
  damaged[damaged.size() / 2] ^= 1;
  const std::string good = Canonical(1);
  for (const std::string& file :
       {std::string("x"), good.substr(1), good + "x", damaged, damaged.substr(0, 1000),
        File(infinite, state::Layout::kCanonical), File(infinite, state::Layout::kRwkvPackage),
        File(other, state::Layout::kTimeState)}) {
    v1::State state;
    const grpc::Status status = states_.Upload({}, file, &state);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), "chunk") << status.error_message();
  }
  EXPECT_EQ(StatesStored(), 0);
}

TEST_F(StateFiles, ATransposedCanonicalFileIsRefusedWhereverItIsTold) {
  v1::UploadOptions options;
  options.set_transposed(true);
  v1::State state;
  EXPECT_EQ(FieldOf(states_.Upload(options, Canonical(1), &state)), "options.transposed");
}

TEST_F(StateFiles, AFileThatIsTooLargeIsRefusedBeforeItIsWhole) {
  v1::UploadStateRequest options, chunk;
  options.mutable_options()->set_layout(v1::CANONICAL);
  chunk.set_chunk(std::string(1 << 20, 'x'));  // more than the model's state of 67 KB
  grpc::ClientContext context;
  StateServing::SetDeadline(context);
  v1::State state;
  const auto stream = states_.states->UploadState(&context, &state);
  stream->Write(options);
  // Without end: only the refusal ends it.
  while (stream->Write(chunk)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_EQ(FieldOf(status), "chunk");
  EXPECT_THAT(status.error_message(), HasSubstr("at most 67584 bytes"));
}

TEST_F(StateFiles, ARetryAnswersWithTheStateThatWasMade) {
  v1::UploadOptions options;
  options.set_request_id("once");
  v1::State first, second;
  ASSERT_TRUE(states_.Upload(options, Canonical(1), &first).ok());
  ASSERT_TRUE(states_.Upload(options, Canonical(1), &second, 7'000).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(first, second));
  EXPECT_EQ(states_.Upload(options, Canonical(2), &second).error_code(),
            StatusCode::ALREADY_EXISTS);
  options.set_token_count(1);
  EXPECT_EQ(states_.Upload(options, Canonical(1), &second).error_code(),
            StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(StatesStored(), 1);
}

TEST_F(StateFiles, RetriesAtTheSameTimeMakeOneState) {
  v1::UploadOptions options;
  options.set_request_id("once");
  const std::string file = Canonical(1);
  std::vector<v1::State> answers(8);
  std::vector<std::thread> threads;
  for (v1::State& answer : answers) {
    threads.emplace_back([&] {
      const grpc::Status status = states_.Upload(options, file, &answer);
      EXPECT_TRUE(status.ok()) << status.error_message();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const v1::State& answer : answers) EXPECT_EQ(answer.name(), answers[0].name());
  EXPECT_EQ(StatesStored(), 1);
}

TEST_F(StateFiles, ACallerThatLeavesStoresNothing) {
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    v1::State state;
    const auto stream = states_.states->UploadState(&context, &state);
    v1::UploadStateRequest options, chunk;
    options.mutable_options();
    chunk.set_chunk(Canonical(1).substr(0, 50'000));
    stream->Write(options);
    stream->Write(chunk);
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  }
  v1::State state;
  EXPECT_TRUE(states_.Upload({}, Canonical(1), &state).ok());
  EXPECT_EQ(StatesStored(), 1);
}

TEST_F(StateFiles, DownloadsOfStatesThatAreNotThere) {
  const std::string name = states_.Keep(states_.MakeRecord(1));
  states_.Child({name});
  ASSERT_TRUE(states_.store->Delete("default", name.substr(7), "").ok());
  for (const std::string& missing : {name, std::string("states/00000000000000000000000000")}) {
    const auto downloaded = states_.Download(missing);
    EXPECT_EQ(downloaded.status.error_code(), StatusCode::NOT_FOUND);
    EXPECT_EQ(downloaded.file, "");
  }
}

// A record with so many tokens that its file needs many chunks.
state::Record LargeRecord(const StateServing& states) {
  state::Record record = states.MakeRecord(1);
  record.lineage.kept_tokens.assign(2'000'000, 5);
  record.lineage.tokens_read = 2'000'000;
  record.lineage.tokens_sha256 = state::TokensSha256(record.lineage.kept_tokens);
  return record;
}

TEST_F(StateFiles, LargeFilesComeAndGoInChunks) {
  const std::string name = states_.Keep(LargeRecord(states_));
  const auto downloaded = states_.Download(name);
  ASSERT_TRUE(downloaded.status.ok()) << downloaded.status.error_message();
  EXPECT_GT(downloaded.file.size(), 7u << 20);
  EXPECT_EQ(downloaded.largest_chunk, 1u << 20);
  EXPECT_EQ(downloaded.header.sha256(), Sha256Hex(downloaded.file));
  v1::State state;
  const grpc::Status status = states_.Upload({}, downloaded.file, &state);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Stored(state)->lineage.kept_tokens.size(), 2'000'000u);
}

TEST(StateTransfers, NoMoreThanTheLimitRunAtOnce) {
  StateServing states([](RequestLimits& limits) { limits.max_uploads = 2; });
  v1::UploadStateRequest options;
  options.mutable_options();
  // Without a file: the field at fault is "chunk" when there was a place.
  const auto code = [&] {
    v1::State state;
    return states.Send({options}, &state).error_code();
  };
  v1::State unused;
  grpc::ClientContext first_context, second_context;
  const auto first = states.states->UploadState(&first_context, &unused);
  const auto second = states.states->UploadState(&second_context, &unused);
  ASSERT_TRUE(first->Write(options));
  ASSERT_TRUE(second->Write(options));
  while (code() != StatusCode::RESOURCE_EXHAUSTED) std::this_thread::yield();
  first_context.TryCancel();
  first->Finish();
  while (code() != StatusCode::INVALID_ARGUMENT) std::this_thread::yield();
  second_context.TryCancel();
  second->Finish();
}

// Visits the streams until a call has ended, each time after `step` has passed.
template <typename Stream>
grpc::Status FinishVisited(StateServing& states, Stream& stream, absl::Duration step) {
  std::atomic<bool> ended{false};
  grpc::Status status;
  std::thread call([&] {
    status = stream.Finish();
    ended = true;
  });
  while (!ended) {
    states.clock.Advance(step);
    states.streams.VisitAll();
    std::this_thread::yield();
  }
  call.join();
  return status;
}

TEST(StateTransfers, AnUploadThatSendsNothingIsEnded) {
  StateServing states;
  for (const bool with_options : {false, true}) {
    grpc::ClientContext context;
    StateServing::SetDeadline(context);
    v1::State state;
    const auto stream = states.states->UploadState(&context, &state);
    v1::UploadStateRequest options;
    options.mutable_options();
    if (with_options) stream->Write(options);
    const grpc::Status status =
        FinishVisited(states, *stream, states.serving.context.limits.stream_silence);
    EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("nothing was sent"));
  }
}

TEST(StateTransfers, AnUploadThatGoesOnIsNotEnded) {
  StateServing states;
  const std::string file =
      state::WriteStateFile(states.MakeRecord(1), state::Layout::kCanonical, {}).value();
  grpc::ClientContext context;
  StateServing::SetDeadline(context);
  v1::State state;
  const auto stream = states.states->UploadState(&context, &state);
  v1::UploadStateRequest message;
  message.mutable_options();
  ASSERT_TRUE(stream->Write(message));
  const absl::Duration almost =
      states.serving.context.limits.stream_silence - absl::Milliseconds(1);
  for (size_t at = 0; at < file.size(); at += 10'000) {
    states.streams.VisitAll();
    message.set_chunk(file.substr(at, 10'000));
    ASSERT_TRUE(stream->Write(message));
  }
  states.clock.Advance(almost);
  states.streams.VisitAll();
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST(StateTransfers, ASilentUploadDoesNotHoldUpADrain) {
  StateServing states;
  grpc::ClientContext context;
  StateServing::SetDeadline(context);
  v1::State state;
  const auto stream = states.states->UploadState(&context, &state);
  states.streams.BeginDrain();
  const grpc::Status status = FinishVisited(states, *stream, absl::Seconds(1));
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << status.error_message();
}

TEST(StateTransfers, AReaderThatNeverReadsOnIsCutOffAndItsPlaceIsFree) {
  StateServing states([](RequestLimits& limits) { limits.max_downloads = 1; });
  v1::DownloadStateRequest request;
  request.set_name(states.Keep(LargeRecord(states)));
  grpc::ClientContext context;
  StateServing::SetDeadline(context);
  const auto stream = states.states->DownloadState(&context, request);
  v1::DownloadStateResponse message;
  ASSERT_TRUE(stream->Read(&message));
  const std::string small = states.Keep(states.MakeRecord(2));
  EXPECT_EQ(states.Download(small).status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  // Its place is free again although it has not gone.
  while (!states.Download(small, v1::CANONICAL).status.ok()) {
    states.clock.Advance(states.serving.context.limits.reader_stall);
    states.streams.VisitAll();
  }
  while (stream->Read(&message)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace dreamstate::server
