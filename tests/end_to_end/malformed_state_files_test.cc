// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/end_to_end/malformed_fixture.h"
#include "tests/end_to_end/malformed_rows.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::BadNames;
using testing::FieldOf;
using testing::kLongName;
using testing::Malformed;
using testing::Session;

TEST_F(Malformed, DownloadState) {
  const std::function<grpc::Status(const v1::DownloadStateRequest&)> call =
      [](const v1::DownloadStateRequest& request) {
        grpc::ClientContext context;
        testing::SetDeadline(context);
        const auto stream = session_->states->DownloadState(&context, request);
        v1::DownloadStateResponse response;
        while (stream->Read(&response)) {
        }
        return stream->Finish();
      };
  const auto good = [] {
    v1::DownloadStateRequest request;
    request.set_name(state_);
    return request;
  };
  ASSERT_TRUE(call(good()).ok());
  Send<v1::DownloadStateRequest>(
      good, call, BadNames<v1::DownloadStateRequest>("name", [](auto& r, const std::string& name) {
        r.set_name(name);
      }));
  Send<v1::DownloadStateRequest>(
      good, call,
      {{"layout", [](auto& r) { r.set_layout(static_cast<v1::StateLayout>(99)); }, "layout"},
       {"dtype", [](auto& r) { r.set_dtype(static_cast<v1::StateDType>(-1)); }, "dtype"},
       {"dtype of a record", [](auto& r) { r.set_dtype(v1::FLOAT16); }, "dtype"},
       {"dtype of a named record",
        [](auto& r) {
          r.set_layout(v1::DREAMSTATE);
          r.set_dtype(v1::BFLOAT16);
        },
        "dtype"}});
}

v1::UploadStateRequest Chunk(std::string bytes) {
  v1::UploadStateRequest request;
  request.set_chunk(std::move(bytes));
  return request;
}

grpc::Status SendUpload(Session& session, const std::vector<v1::UploadStateRequest>& messages) {
  grpc::ClientContext context;
  testing::SetDeadline(context);
  v1::State state;
  const auto stream = session.states->UploadState(&context, &state);
  for (const v1::UploadStateRequest& message : messages) {
    if (!stream->Write(message)) break;
  }
  stream->WritesDone();
  return stream->Finish();
}

// Of the starter's model: 12 layers, width 64, 1 head of 64.
constexpr size_t kStarterStateBytes = (12 * 2 * 64 + 12 * 64 * 64) * 4;

TEST_F(Malformed, UploadOptions) {
  const std::function<grpc::Status(const v1::UploadOptions&)> call =
      [](const v1::UploadOptions& options) {
        v1::UploadStateRequest first;
        *first.mutable_options() = options;
        return SendUpload(*session_, {first, Chunk(std::string(kStarterStateBytes, '\0'))});
      };
  const auto good = [] { return v1::UploadOptions(); };
  ASSERT_TRUE(call(good()).ok());
  Send<v1::UploadOptions>(
      good, call,
      {{"malformed model", [](auto& o) { o.set_model("tiny"); }, "options.model"},
       {"huge model", [](auto& o) { o.set_model("models/" + kLongName); }, "options.model"},
       {"unknown model", [](auto& o) { o.set_model("models/unknown"); }, "", StatusCode::NOT_FOUND},
       {"layout", [](auto& o) { o.set_layout(static_cast<v1::StateLayout>(99)); },
        "options.layout"},
       {"dtype", [](auto& o) { o.set_dtype(static_cast<v1::StateDType>(99)); }, "options.dtype"},
       {"dtype of a .pth file",
        [](auto& o) {
          o.set_layout(v1::RWKV_PACKAGE);
          o.set_dtype(v1::BFLOAT16);
        },
        "options.dtype"},
       {"dtype of a record",
        [](auto& o) {
          o.set_layout(v1::DREAMSTATE);
          o.set_dtype(v1::FLOAT32);
        },
        "options.dtype"},
       {"transposed canonical values",
        [](auto& o) {
          o.set_layout(v1::CANONICAL);
          o.set_transposed(true);
        },
        "options.transposed"},
       {"transposed, as the file shows", [](auto& o) { o.set_transposed(true); },
        "options.transposed"},
       {"other dtype than the file's", [](auto& o) { o.set_dtype(v1::FLOAT16); }, "chunk"},
       {"other layout than the file's", [](auto& o) { o.set_layout(v1::TIME_STATE); }, "chunk"},
       {"no record", [](auto& o) { o.set_layout(v1::DREAMSTATE); }, "chunk"},
       {"label", [](auto& o) { o.mutable_annotations()->add_labels(""); },
        "options.annotations.labels[0]"},
       {"time to live",
        [](auto& o) { o.mutable_annotations()->mutable_time_to_live()->set_seconds(-1); },
        "options.annotations.time_to_live"},
       {"negative tokens", [](auto& o) { o.set_token_count(-1); }, "options.token_count"},
       {"too many tokens", [](auto& o) { o.set_token_count((int64_t{1} << 53) + 1); },
        "options.token_count"},
       {"request id", [](auto& o) { o.set_request_id(std::string(129, 'x')); },
        "options.request_id"}});
}

TEST_F(Malformed, UploadStreams) {
  v1::UploadStateRequest options, nothing;
  options.mutable_options();
  std::string not_finite(kStarterStateBytes, '\0');
  std::memset(not_finite.data() + 400, 0xff, 4);
  const std::string whole(kStarterStateBytes, '\0');
  const std::string megabyte(1 << 20, 'x');
  const std::vector<std::pair<std::vector<v1::UploadStateRequest>, std::string>> table = {
      {{}, "options"},
      {{nothing}, "options"},
      {{Chunk("x")}, "options"},
      {{options, options}, "options"},
      {{options, Chunk(whole), options}, "options"},
      {{options}, "chunk"},
      {{options, nothing}, "chunk"},
      {{options, Chunk("")}, "chunk"},
      {{options, Chunk(megabyte + "x")}, "chunk"},
      {{options, Chunk("x")}, "chunk"},
      {{options, Chunk(whole), Chunk("x")}, "chunk"},
      {{options, Chunk(not_finite)}, "chunk"},
      // More than any file of such a state: kept tokens and lineage take 9 MB at most.
      {std::vector<v1::UploadStateRequest>(1, options), "chunk"},
  };
  for (const auto& [messages, field] : table) {
    std::vector<v1::UploadStateRequest> sent = messages;
    if (&messages == &table.back().first) sent.resize(12, Chunk(megabyte));
    for (const v1::UploadStateRequest& message : sent) Note(nothing, message);
    const grpc::Status status = SendUpload(*session_, sent);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), field) << status.error_message();
  }
  EXPECT_TRUE(SendUpload(*session_, {options, Chunk(whole)}).ok());
}

}  // namespace
}  // namespace dreamstate
