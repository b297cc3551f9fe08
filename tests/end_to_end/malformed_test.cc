// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::FieldOf;
using testing::Harvested;
using ::testing::HasSubstr;
using testing::ServerProcess;
using testing::Session;
using ::testing::StartsWith;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const std::string kLongName(100'000, 'x');

// One server for the whole suite: what one request does to it, the next one would notice.
class Malformed : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<testing::TemporaryDirectory>();
    server_ = std::make_unique<ServerProcess>(ServerProcess::Setup{
        .repository = DREAMSTATE_STARTER "/repository", .store = *directory_ / "store"});
    ASSERT_TRUE(server_->WaitUntilListening());
    session_ = std::make_unique<Session>(server_->address());
    session_->WaitServing();
    state_ = session_->HarvestText("Once upon a time there was");
  }
  static void TearDownTestSuite() {
    session_.reset();
    EXPECT_EQ(server_->Stop(), 0);
    server_.reset();
    directory_.reset();
  }
  void TearDown() override { StillServes(); }

  static void StillServes() {
    EXPECT_TRUE(session_->GetState(state_).first.ok());
    EXPECT_TRUE(session_->Decode(testing::SeededDecode(state_, 2, 3)).status.ok());
  }

  static inline std::unique_ptr<testing::TemporaryDirectory> directory_;
  static inline std::unique_ptr<ServerProcess> server_;
  static inline std::unique_ptr<Session> session_;
  static inline std::string state_;
};

template <typename Request>
struct Row {
  const char* kind;
  std::function<void(Request&)> spoil;
  std::string field;
  StatusCode code = StatusCode::INVALID_ARGUMENT;
};

// Sends a good request spoilt in one way after another.
template <typename Request>
void Send(const std::function<Request()>& good,
          const std::function<grpc::Status(const Request&)>& call,
          const std::vector<Row<Request>>& table) {
  for (const Row<Request>& row : table) {
    SCOPED_TRACE(row.kind);
    Request request = good();
    row.spoil(request);
    const grpc::Status status = call(request);
    EXPECT_EQ(status.error_code(), row.code) << status.error_message();
    EXPECT_EQ(FieldOf(status), row.field) << status.error_message();
    EXPECT_FALSE(status.error_message().empty());
  }
}

template <typename Stub, typename Method, typename Request, typename Response>
std::function<grpc::Status(const Request&)> Unary(Stub& stub, Method method) {
  return [&stub, method](const Request& request) {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    Response response;
    return (stub.*method)(&context, request, &response);
  };
}

TEST_F(Malformed, ModelService) {
  using Models = v1::ModelService::Stub;
  Send<v1::ListModelsRequest>(
      [] { return v1::ListModelsRequest(); },
      Unary<Models, decltype(&Models::ListModels), v1::ListModelsRequest, v1::ListModelsResponse>(
          *session_->models, &Models::ListModels),
      {{"negative page", [](auto& r) { r.set_page_size(-1); }, "page_size"},
       {"page over the limit", [](auto& r) { r.set_page_size(1001); }, "page_size"},
       {"page token of nobody", [](auto& r) { r.set_page_token("no token"); }, "page_token"},
       {"page token of another list", [](auto& r) { r.set_page_token("c3RhdGVzCjE="); },
        "page_token"},
       {"huge page token", [](auto& r) { r.set_page_token(kLongName); }, "page_token"}});
  Send<v1::GetModelRequest>(
      [] { return v1::GetModelRequest(); },
      Unary<Models, decltype(&Models::GetModel), v1::GetModelRequest, v1::Model>(*session_->models,
                                                                                 &Models::GetModel),
      {{"no name", [](auto&) {}, "name"},
       {"no collection", [](auto& r) { r.set_name("tiny"); }, "name"},
       {"no id", [](auto& r) { r.set_name("models/"); }, "name"},
       {"other collection", [](auto& r) { r.set_name("states/tiny"); }, "name"},
       {"upper case", [](auto& r) { r.set_name("models/Tiny"); }, "name"},
       {"path", [](auto& r) { r.set_name("models/../tiny"); }, "name"},
       {"deeper", [](auto& r) { r.set_name("models/tiny/versions/1"); }, "name"},
       {"huge", [](auto& r) { r.set_name("models/" + kLongName); }, "name"},
       {"unknown", [](auto& r) { r.set_name("models/unknown"); }, "", StatusCode::NOT_FOUND}});
  Send<v1::ListModelVersionsRequest>(
      [] {
        v1::ListModelVersionsRequest request;
        request.set_parent("models/tiny");
        return request;
      },
      Unary<Models, decltype(&Models::ListModelVersions), v1::ListModelVersionsRequest,
            v1::ListModelVersionsResponse>(*session_->models, &Models::ListModelVersions),
      {{"no parent", [](auto& r) { r.clear_parent(); }, "parent"},
       {"malformed parent", [](auto& r) { r.set_parent("tiny"); }, "parent"},
       {"page size", [](auto& r) { r.set_page_size(-5); }, "page_size"},
       {"page token", [](auto& r) { r.set_page_token("?"); }, "page_token"},
       {"unknown", [](auto& r) { r.set_parent("models/unknown"); }, "", StatusCode::NOT_FOUND}});
}

TEST_F(Malformed, ModelServiceAdmin) {
  using Models = v1::ModelService::Stub;
  Send<v1::ReloadModelRequest>(
      [] { return v1::ReloadModelRequest(); },
      Unary<Models, decltype(&Models::ReloadModel), v1::ReloadModelRequest,
            v1::ReloadModelResponse>(*session_->models, &Models::ReloadModel),
      {{"no name", [](auto&) {}, "name"},
       {"a version", [](auto& r) { r.set_name("models/tiny/versions/1"); }, "name"},
       {"path", [](auto& r) { r.set_name("models/../tiny"); }, "name"},
       {"huge", [](auto& r) { r.set_name("models/" + kLongName); }, "name"},
       {"unknown", [](auto& r) { r.set_name("models/unknown"); }, "", StatusCode::NOT_FOUND},
       {"unknown, waiting",
        [](auto& r) {
          r.set_name("models/unknown");
          r.set_wait(true);
        },
        "", StatusCode::NOT_FOUND}});
  Send<v1::PinModelVersionRequest>(
      [] { return v1::PinModelVersionRequest(); },
      Unary<Models, decltype(&Models::PinModelVersion), v1::PinModelVersionRequest, v1::Model>(
          *session_->models, &Models::PinModelVersion),
      {{"no name", [](auto&) {}, "name"},
       {"no version", [](auto& r) { r.set_name("models/tiny"); }, "name"},
       {"empty version", [](auto& r) { r.set_name("models/tiny/versions/"); }, "name"},
       {"no number", [](auto& r) { r.set_name("models/tiny/versions/latest"); }, "name"},
       {"zero", [](auto& r) { r.set_name("models/tiny/versions/0"); }, "name"},
       {"negative", [](auto& r) { r.set_name("models/tiny/versions/-1"); }, "name"},
       {"another spelling", [](auto& r) { r.set_name("models/tiny/versions/01"); }, "name"},
       {"over 64 bits", [](auto& r) { r.set_name("models/tiny/versions/99999999999999999999"); },
        "name"},
       {"path", [](auto& r) { r.set_name("models/../versions/1"); }, "name"},
       {"huge", [](auto& r) { r.set_name("models/tiny/versions/" + kLongName); }, "name"},
       {"unknown version", [](auto& r) { r.set_name("models/tiny/versions/999"); }, "",
        StatusCode::NOT_FOUND},
       {"unknown model", [](auto& r) { r.set_name("models/unknown/versions/1"); }, "",
        StatusCode::NOT_FOUND}});
  Send<v1::UnpinModelRequest>(
      [] { return v1::UnpinModelRequest(); },
      Unary<Models, decltype(&Models::UnpinModel), v1::UnpinModelRequest, v1::Model>(
          *session_->models, &Models::UnpinModel),
      {{"no name", [](auto&) {}, "name"},
       {"a version", [](auto& r) { r.set_name("models/tiny/versions/1"); }, "name"},
       {"unknown", [](auto& r) { r.set_name("models/unknown"); }, "", StatusCode::NOT_FOUND}});
}

TEST_F(Malformed, StateServiceUnaryMethods) {
  using States = v1::StateService::Stub;
  const auto bad_names = [](auto request) {
    using Request = decltype(request);
    return std::vector<Row<Request>>{
        {"no name", [](auto& r) { r.clear_name(); }, "name"},
        {"no collection", [](auto& r) { r.set_name("abc"); }, "name"},
        {"no id", [](auto& r) { r.set_name("states/"); }, "name"},
        {"path", [](auto& r) { r.set_name("states/../models"); }, "name"},
        {"upper case", [](auto& r) { r.set_name("states/ABC"); }, "name"},
        {"NUL", [](auto& r) { r.set_name(std::string("states/a\0b", 10)); }, "name"},
        {"huge", [](auto& r) { r.set_name("states/" + kLongName); }, "name"},
        {"unknown", [](auto& r) { r.set_name("states/00000000000000000000000000"); }, "",
         StatusCode::NOT_FOUND}};
  };
  Send<v1::GetStateRequest>(
      [] { return v1::GetStateRequest(); },
      Unary<States, decltype(&States::GetState), v1::GetStateRequest, v1::State>(*session_->states,
                                                                                 &States::GetState),
      bad_names(v1::GetStateRequest()));
  const auto remove = Unary<States, decltype(&States::DeleteState), v1::DeleteStateRequest,
                            v1::DeleteStateResponse>(*session_->states, &States::DeleteState);
  const auto good_delete = [] {
    v1::DeleteStateRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::DeleteStateRequest>(good_delete, remove, bad_names(v1::DeleteStateRequest()));
  Send<v1::DeleteStateRequest>(
      good_delete, remove,
      {{"huge etag", [](auto& r) { r.set_etag(kLongName); }, "etag"},
       {"huge request id", [](auto& r) { r.set_request_id(kLongName); }, "request_id"},
       {"other etag", [](auto& r) { r.set_etag("x"); }, "", StatusCode::ABORTED}});

  Send<v1::ListStatesRequest>(
      [] { return v1::ListStatesRequest(); },
      Unary<States, decltype(&States::ListStates), v1::ListStatesRequest, v1::ListStatesResponse>(
          *session_->states, &States::ListStates),
      {{"negative page", [](auto& r) { r.set_page_size(-1); }, "page_size"},
       {"page over the limit", [](auto& r) { r.set_page_size(1001); }, "page_size"},
       {"page token", [](auto& r) { r.set_page_token("no token"); }, "page_token"},
       {"huge page token", [](auto& r) { r.set_page_token(kLongName); }, "page_token"},
       {"model", [](auto& r) { r.set_model("tiny"); }, "model"},
       {"empty label", [](auto& r) { r.add_labels(""); }, "labels[0]"},
       {"long label",
        [](auto& r) {
          r.add_labels("good");
          r.add_labels(std::string(129, 'x'));
        },
        "labels[1]"},
       {"parent", [](auto& r) { r.set_parent("nobody"); }, "parent"},
       {"fingerprint", [](auto& r) { r.set_backbone_fingerprint("abc"); }, "backbone_fingerprint"},
       {"order", [](auto& r) { r.set_order(static_cast<v1::ListStatesRequest::Order>(99)); },
        "order"}});

  const auto update =
      Unary<States, decltype(&States::UpdateState), v1::UpdateStateRequest, v1::State>(
          *session_->states, &States::UpdateState);
  const auto good_update = [] {
    v1::UpdateStateRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::UpdateStateRequest>(good_update, update, bad_names(v1::UpdateStateRequest()));
  const auto ttl = [](auto& r) { return r.mutable_annotations()->mutable_time_to_live(); };
  Send<v1::UpdateStateRequest>(
      good_update, update,
      {{"mask",
        [](auto& r) {
          r.mutable_update_mask()->add_paths("labels");
          r.mutable_update_mask()->add_paths("name");
        },
        "update_mask.paths[1]"},
       {"empty label", [](auto& r) { r.mutable_annotations()->add_labels(""); },
        "annotations.labels[0]"},
       {"control character in a label",
        [](auto& r) { r.mutable_annotations()->add_labels("a\nb"); }, "annotations.labels[0]"},
       {"too many labels",
        [](auto& r) {
          for (int i = 0; i < 65; ++i) r.mutable_annotations()->add_labels(std::to_string(i));
        },
        "annotations.labels"},
       {"negative time to live", [=](auto& r) { ttl(r)->set_seconds(-1); },
        "annotations.time_to_live"},
       {"time to live over ten years", [=](auto& r) { ttl(r)->set_seconds(400'000'000); },
        "annotations.time_to_live"},
       {"no duration at all", [=](auto& r) { ttl(r)->set_nanos(2'000'000'000); },
        "annotations.time_to_live"},
       {"duration out of its own range",
        [=](auto& r) { ttl(r)->set_seconds(std::numeric_limits<int64_t>::max()); },
        "annotations.time_to_live"},
       {"huge etag", [](auto& r) { r.set_etag(kLongName); }, "etag"},
       {"request id", [](auto& r) { r.set_request_id(std::string(129, 'x')); }, "request_id"},
       {"other etag", [](auto& r) { r.set_etag("x"); }, "", StatusCode::ABORTED}});
}

// Every way in which the name of a state can be none, for one field of a request.
template <typename Request, typename Set>
std::vector<Row<Request>> BadNames(const std::string& field, Set set) {
  std::vector<Row<Request>> rows;
  for (const auto& [kind, name] :
       std::vector<std::pair<const char*, std::string>>{{"no name", ""},
                                                        {"no collection", "abc"},
                                                        {"no id", "states/"},
                                                        {"other collection", "models/tiny"},
                                                        {"path", "states/../models"},
                                                        {"upper case", "states/ABC"},
                                                        {"NUL", std::string("states/a\0b", 10)},
                                                        {"huge", "states/" + kLongName}}) {
    rows.push_back({kind, [set, name = name](Request& r) { set(r, name); }, field});
  }
  rows.push_back({"unknown", [set](Request& r) { set(r, "states/00000000000000000000000000"); }, "",
                  StatusCode::NOT_FOUND});
  return rows;
}

TEST_F(Malformed, DeleteStates) {
  using States = v1::StateService::Stub;
  const auto timestamp = [](auto& r) { return r.mutable_created_before(); };
  Send<v1::DeleteStatesRequest>(
      [] {
        v1::DeleteStatesRequest request;
        request.set_all(true);
        return request;
      },
      Unary<States, decltype(&States::DeleteStates), v1::DeleteStatesRequest,
            v1::DeleteStatesResponse>(*session_->states, &States::DeleteStates),
      {{"nothing set", [](auto& r) { r.clear_all(); }, "all"},
       {"nothing set, dry",
        [](auto& r) {
          r.clear_all();
          r.set_dry_run(true);
        },
        "all"},
       {"model", [](auto& r) { r.set_model("tiny"); }, "model"},
       {"huge model", [](auto& r) { r.set_model("models/" + kLongName); }, "model"},
       {"empty label", [](auto& r) { r.add_labels(""); }, "labels[0]"},
       {"long label",
        [](auto& r) {
          r.add_labels("good");
          r.add_labels(std::string(129, 'x'));
        },
        "labels[1]"},
       {"too many labels",
        [](auto& r) {
          for (int i = 0; i < 65; ++i) r.add_labels(std::to_string(i));
        },
        "labels"},
       {"parent", [](auto& r) { r.set_parent("nobody"); }, "parent"},
       {"fingerprint", [](auto& r) { r.set_backbone_fingerprint("abc"); }, "backbone_fingerprint"},
       {"upper-case fingerprint", [](auto& r) { r.set_backbone_fingerprint(std::string(64, 'A')); },
        "backbone_fingerprint"},
       {"negative nanoseconds", [=](auto& r) { timestamp(r)->set_nanos(-1); }, "created_before"},
       {"nanoseconds of more than a second",
        [=](auto& r) { timestamp(r)->set_nanos(1'000'000'000); }, "created_before"},
       {"seconds out of range",
        [=](auto& r) { timestamp(r)->set_seconds(std::numeric_limits<int64_t>::max()); },
        "created_before"},
       {"seconds before year 1",
        [=](auto& r) { timestamp(r)->set_seconds(std::numeric_limits<int64_t>::min()); },
        "created_before"},
       {"request id", [](auto& r) { r.set_request_id(std::string(129, 'x')); }, "request_id"}});
}

TEST_F(Malformed, NumbersOfStatesAndLineages) {
  using States = v1::StateService::Stub;
  const auto set_name = [](auto& r, const std::string& name) { r.set_name(name); };
  Send<v1::DescribeStateRequest>(
      [] { return v1::DescribeStateRequest(); },
      Unary<States, decltype(&States::DescribeState), v1::DescribeStateRequest,
            v1::DescribeStateResponse>(*session_->states, &States::DescribeState),
      BadNames<v1::DescribeStateRequest>("name", set_name));

  const auto compare = Unary<States, decltype(&States::CompareStates), v1::CompareStatesRequest,
                             v1::CompareStatesResponse>(*session_->states, &States::CompareStates);
  const auto good_compare = [] {
    v1::CompareStatesRequest request;
    request.set_first(state_);
    request.set_second(state_);
    return request;
  };
  ASSERT_TRUE(compare(good_compare()).ok());
  Send<v1::CompareStatesRequest>(
      good_compare, compare,
      BadNames<v1::CompareStatesRequest>(
          "first", [](auto& r, const std::string& name) { r.set_first(name); }));
  Send<v1::CompareStatesRequest>(
      good_compare, compare,
      BadNames<v1::CompareStatesRequest>(
          "second", [](auto& r, const std::string& name) { r.set_second(name); }));

  const auto lineage =
      Unary<States, decltype(&States::GetLineage), v1::GetLineageRequest, v1::GetLineageResponse>(
          *session_->states, &States::GetLineage);
  const auto good_lineage = [] {
    v1::GetLineageRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::GetLineageRequest>(good_lineage, lineage,
                              BadNames<v1::GetLineageRequest>("name", set_name));
  Send<v1::GetLineageRequest>(
      good_lineage, lineage,
      {{"negative ancestors", [](auto& r) { r.set_ancestor_generations(-1); },
        "ancestor_generations"},
       {"too many ancestors", [](auto& r) { r.set_ancestor_generations(1001); },
        "ancestor_generations"},
       {"negative descendants", [](auto& r) { r.set_descendant_generations(-1); },
        "descendant_generations"},
       {"too many descendants", [](auto& r) { r.set_descendant_generations(1001); },
        "descendant_generations"}});
}

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
    const grpc::Status status = SendUpload(*session_, sent);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), field) << status.error_message();
  }
  EXPECT_TRUE(SendUpload(*session_, {options, Chunk(whole)}).ok());
}

// What Decode and Score have in common.
template <typename Request>
std::vector<Row<Request>> BadSources() {
  const auto tensors = [](Request& r) {
    v1::StateTensors* t = r.mutable_source()->mutable_tensors();
    t->mutable_shape()->set_layers(1);
    t->mutable_shape()->set_width(64);
    t->mutable_shape()->set_heads(1);
    t->mutable_shape()->set_head_size(64);
    t->set_backbone_fingerprint(std::string(64, 'a'));
    t->set_shift(std::string(2 * 64 * 4, '\0'));
    t->set_wkv(std::string(64 * 64 * 4, '\0'));
    return t;
  };
  return {
      {"malformed model", [](auto& r) { r.set_model("tiny"); }, "model"},
      {"huge model", [](auto& r) { r.set_model("models/" + kLongName); }, "model"},
      {"unknown model", [](auto& r) { r.set_model("models/unknown"); }, "", StatusCode::NOT_FOUND},
      {"empty state", [](auto& r) { r.mutable_source()->set_state(""); }, "source.state"},
      {"malformed state", [](auto& r) { r.mutable_source()->set_state("x"); }, "source.state"},
      {"unknown state",
       [](auto& r) { r.mutable_source()->set_state("states/00000000000000000000000000"); }, "",
       StatusCode::NOT_FOUND},
      {"tensors without a shape", [](auto& r) { r.mutable_source()->mutable_tensors(); },
       "source.tensors.shape"},
      {"absurd shape",
       [=](auto& r) {
         auto* shape = tensors(r)->mutable_shape();
         shape->set_layers(std::numeric_limits<int32_t>::max());
         shape->set_width(std::numeric_limits<int32_t>::max());
         shape->set_heads(std::numeric_limits<int32_t>::max());
         shape->set_head_size(1);
       },
       "source.tensors.shape"},
      {"negative shape", [=](auto& r) { tensors(r)->mutable_shape()->set_layers(-1); },
       "source.tensors.shape"},
      {"short shift", [=](auto& r) { tensors(r)->mutable_shift()->resize(5); },
       "source.tensors.shift"},
      {"long wkv", [=](auto& r) { tensors(r)->mutable_wkv()->push_back('x'); },
       "source.tensors.wkv"},
      {"NaN in wkv", [=](auto& r) { std::memset(tensors(r)->mutable_wkv()->data(), 0xff, 4); },
       "source.tensors.wkv"},
      {"last hidden", [=](auto& r) { tensors(r)->set_last_hidden("xy"); },
       "source.tensors.last_hidden"},
      {"fingerprint", [=](auto& r) { tensors(r)->set_backbone_fingerprint("xy"); },
       "source.tensors.backbone_fingerprint"},
      {"tokens read", [=](auto& r) { tensors(r)->set_token_count(-1); },
       "source.tensors.token_count"},
      {"tensors of another model", [=](auto& r) { tensors(r); }, "",
       StatusCode::FAILED_PRECONDITION},
  };
}

template <typename Request>
std::vector<Row<Request>> BadTexts(const std::string& field, v1::TextInput* (Request::*text)()) {
  return {
      {"token out of range",
       [=](auto& r) {
         (r.*text)()->mutable_tokens()->add_ids(1);
         (r.*text)()->mutable_tokens()->add_ids(256);
       },
       field + ".tokens.ids[1]"},
      {"negative token", [=](auto& r) { (r.*text)()->mutable_tokens()->add_ids(-1); },
       field + ".tokens.ids[0]"},
      {"reserved token in text", [=](auto& r) { (r.*text)()->set_text(std::string("a\0b", 3)); },
       field + ".text"},
      {"reserved token in bytes", [=](auto& r) { (r.*text)()->set_raw(std::string("a\0b", 3)); },
       field + ".raw"},
      {"text over the limit",
       [=](auto& r) { (r.*text)()->set_text(std::string((1 << 20) + 1, 'x')); }, field + ".text"},
  };
}

TEST_F(Malformed, Decode) {
  const auto good = [] { return testing::SeededDecode(state_, 1, 2); };
  const std::function<grpc::Status(const v1::DecodeRequest&)> call =
      [](const v1::DecodeRequest& request) { return session_->Decode(request).status; };
  Send<v1::DecodeRequest>(good, call, BadSources<v1::DecodeRequest>());
  Send<v1::DecodeRequest>(
      good, call, BadTexts<v1::DecodeRequest>("prompt", &v1::DecodeRequest::mutable_prompt));
  const auto sampling = [](auto set) {
    return [=](v1::DecodeRequest& r) { set(*r.mutable_sampling()); };
  };
  const auto bias = [](int token, float value) {
    return [=](v1::DecodeRequest& r) {
      auto* entry = r.mutable_sampling()->add_logit_bias();
      entry->set_token_id(token);
      entry->set_bias(value);
    };
  };
  Send<v1::DecodeRequest>(
      good, call,
      {{"negative branches", [](auto& r) { r.set_branches(-1); }, "branches"},
       {"too many branches", [](auto& r) { r.set_branches(65); }, "branches"},
       {"negative tokens", [](auto& r) { r.set_max_tokens(-1); }, "max_tokens"},
       {"too many tokens", [](auto& r) { r.set_max_tokens((1 << 20) + 1); }, "max_tokens"},
       {"temperature", sampling([](auto& s) { s.set_temperature(-0.1f); }), "sampling.temperature"},
       {"hot", sampling([](auto& s) { s.set_temperature(10.1f); }), "sampling.temperature"},
       {"NaN temperature", sampling([](auto& s) { s.set_temperature(kNan); }),
        "sampling.temperature"},
       {"top_k", sampling([](auto& s) { s.set_top_k(-1); }), "sampling.top_k"},
       {"top_p", sampling([](auto& s) { s.set_top_p(1.1f); }), "sampling.top_p"},
       {"NaN top_p", sampling([](auto& s) { s.set_top_p(kNan); }), "sampling.top_p"},
       {"min_p", sampling([](auto& s) { s.set_min_p(1.0f); }), "sampling.min_p"},
       {"presence", sampling([](auto& s) { s.set_presence_penalty(10.5f); }),
        "sampling.presence_penalty"},
       {"frequency", sampling([](auto& s) { s.set_frequency_penalty(-kInfinity); }),
        "sampling.frequency_penalty"},
       {"decay", sampling([](auto& s) { s.set_penalty_decay(1.5f); }), "sampling.penalty_decay"},
       {"bias of no token", bias(256, 1), "sampling.logit_bias[0].token_id"},
       {"large bias", bias(1, 101), "sampling.logit_bias[0].bias"},
       {"NaN bias", bias(1, kNan), "sampling.logit_bias[0].bias"},
       {"a token's bias twice",
        [=](auto& r) {
          bias(1, 1)(r);
          bias(1, 2)(r);
        },
        "sampling.logit_bias"},
       {"too many biases",
        [=](auto& r) {
          for (int i = 0; i < 1025; ++i) bias(i % 256, 1)(r);
        },
        "sampling.logit_bias"},
       {"empty stop", [](auto& r) { r.add_stop(std::string()); }, "stop[0]"},
       {"long stop",
        [](auto& r) {
          r.add_stop(std::string(1, 'a'));
          r.add_stop(std::string(257, 'x'));
        },
        "stop[1]"},
       {"too many stops",
        [](auto& r) {
          for (int i = 0; i < 17; ++i) r.add_stop(std::string(1, 'x'));
        },
        "stop"},
       {"negative log-probabilities", [](auto& r) { r.set_top_log_probs(-1); }, "top_log_probs"},
       {"too many log-probabilities", [](auto& r) { r.set_top_log_probs(21); }, "top_log_probs"},
       {"label", [](auto& r) { r.mutable_save_state()->mutable_annotations()->add_labels(""); },
        "save_state.annotations.labels[0]"},
       {"time to live",
        [](auto& r) {
          r.mutable_save_state()->mutable_annotations()->mutable_time_to_live()->set_seconds(-1);
        },
        "save_state.annotations.time_to_live"},
       {"request id",
        [](auto& r) { r.mutable_save_state()->set_request_id(std::string(129, 'x')); },
        "save_state.request_id"}});
}

TEST_F(Malformed, DecodeBatch) {
  const auto good = [](const std::string& id) {
    v1::DecodeBatchRequest message;
    message.set_id(id);
    *message.mutable_request() = testing::SeededDecode(state_, 1, 2);
    return message;
  };
  using Errors = std::map<std::string, google::rpc::Status>;
  const auto send = [](const std::vector<v1::DecodeBatchRequest>& messages) {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    auto stream = session_->decode->DecodeBatch(&context);
    for (const auto& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    Errors errors;
    v1::DecodeBatchResponse response;
    while (stream->Read(&response)) {
      if (response.has_error()) errors[response.id()] = response.error();
    }
    return std::pair(stream->Finish(), errors);
  };
  // What is wrong with one decode is said to it, as Decode says it, and its neighbours go on.
  const auto as_grpc = [](const google::rpc::Status& status) {
    return grpc::Status(static_cast<StatusCode>(status.code()), status.message(),
                        status.SerializeAsString());
  };
  const std::function<grpc::Status(const v1::DecodeRequest&)> one_of_many =
      [&](const v1::DecodeRequest& request) {
        v1::DecodeBatchRequest bad = good("bad");
        *bad.mutable_request() = request;
        const auto [status, errors] = send({good("before"), bad, good("after")});
        EXPECT_TRUE(status.ok()) << status.error_message();
        EXPECT_EQ(errors.size(), 1u);
        return errors.count("bad") > 0 ? as_grpc(errors.at("bad")) : grpc::Status::OK;
      };
  const auto good_request = [&] { return good("").request(); };
  Send<v1::DecodeRequest>(good_request, one_of_many, BadSources<v1::DecodeRequest>());
  Send<v1::DecodeRequest>(
      good_request, one_of_many,
      BadTexts<v1::DecodeRequest>("prompt", &v1::DecodeRequest::mutable_prompt));
  {
    v1::DecodeBatchRequest without = good("without");
    without.clear_request();
    const auto [status, errors] = send({without, good("after")});
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(FieldOf(as_grpc(errors.at("without"))), "request");
  }
  // An id that is none cannot be answered: the stream ends.
  v1::DecodeBatchRequest runs = good("runs");
  *runs.mutable_request() = testing::EndlessDecode(1 << 20, 0);
  for (const auto& [kind, id] : std::vector<std::pair<const char*, std::string>>{
           {"no id", ""}, {"long id", std::string(257, 'x')}, {"id of one that runs", "runs"}}) {
    SCOPED_TRACE(kind);
    const grpc::Status status = send({runs, good(id)}).first;
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), "id");
  }
}

TEST_F(Malformed, Score) {
  const auto good = [] {
    v1::ScoreRequest request;
    request.mutable_source()->set_state(state_);
    request.mutable_target()->set_text("a king");
    return request;
  };
  const std::function<grpc::Status(const v1::ScoreRequest&)> call =
      [](const v1::ScoreRequest& request) { return session_->Score(request).first; };
  ASSERT_TRUE(call(good()).ok());
  Send<v1::ScoreRequest>(good, call, BadSources<v1::ScoreRequest>());
  Send<v1::ScoreRequest>(good, call,
                         BadTexts<v1::ScoreRequest>("context", &v1::ScoreRequest::mutable_context));
  Send<v1::ScoreRequest>(good, call,
                         BadTexts<v1::ScoreRequest>("target", &v1::ScoreRequest::mutable_target));
  Send<v1::ScoreRequest>(
      good, call,
      {{"no target", [](auto& r) { r.clear_target(); }, "target"},
       {"empty target", [](auto& r) { r.mutable_target()->set_text(""); }, "target"}});
}

TEST_F(Malformed, HarvestOptions) {
  const std::function<grpc::Status(const v1::HarvestOptions&)> call =
      [](const v1::HarvestOptions& options) { return session_->Harvest(options, {}).status; };
  Send<v1::HarvestOptions>(
      [] { return v1::HarvestOptions(); }, call,
      {{"malformed model", [](auto& o) { o.set_model("tiny"); }, "options.model"},
       {"unknown model", [](auto& o) { o.set_model("models/unknown"); }, "", StatusCode::NOT_FOUND},
       {"label", [](auto& o) { o.mutable_annotations()->add_labels(""); },
        "options.annotations.labels[0]"},
       {"time to live",
        [](auto& o) { o.mutable_annotations()->mutable_time_to_live()->set_seconds(-1); },
        "options.annotations.time_to_live"},
       {"malformed source", [](auto& o) { o.set_source_state("x"); }, "options.source_state"},
       {"unknown source", [](auto& o) { o.set_source_state("states/00000000000000000000000000"); },
        "", StatusCode::NOT_FOUND},
       {"request id", [](auto& o) { o.set_request_id(std::string(129, 'x')); },
        "options.request_id"}});
}

TEST_F(Malformed, HarvestStreams) {
  v1::HarvestStatesRequest options, document, nothing;
  options.mutable_options();
  document.mutable_document()->set_id("d");
  document.mutable_document()->mutable_content()->set_text("text");
  const auto send = [](const std::vector<v1::HarvestStatesRequest>& messages) {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    auto stream = session_->states->HarvestStates(&context);
    for (const auto& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    v1::HarvestStatesResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  };
  const std::vector<std::pair<std::vector<v1::HarvestStatesRequest>, std::string>> table = {
      {{}, "options"},
      {{nothing}, "options"},
      {{document}, "options"},
      {{options, options}, "options"},
      {{options, nothing}, "document"},
  };
  for (const auto& [messages, field] : table) {
    const grpc::Status status = send(messages);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), field) << status.error_message();
  }
  EXPECT_TRUE(send({options, document}).ok());
}

TEST_F(Malformed, ABadDocumentEndsNeitherTheStreamNorItsNeighbours) {
  const auto good = [](const std::string& id) {
    v1::Document document;
    document.set_id(id);
    document.mutable_content()->set_text("0123456789");
    return document;
  };
  struct BadDocument {
    const char* id;
    std::function<void(v1::Document&)> spoil;
    std::string says;
  };
  const std::vector<BadDocument> table = {
      {"empty id", [](auto& d) { d.clear_id(); }, "document.id"},
      {"long id", [](auto& d) { d.set_id(std::string(257, 'x')); }, "document.id"},
      {"repeated id", [](auto& d) { d.set_id("first"); }, "document.id"},
      {"long label", [](auto& d) { d.set_label(std::string(129, 'x')); }, "document.label"},
      {"control label", [](auto& d) { d.set_label("a\tb"); }, "document.label"},
      {"no content", [](auto& d) { d.clear_content(); }, "document.content"},
      {"empty content", [](auto& d) { d.mutable_content()->set_text(""); }, "document.content"},
      {"token", [](auto& d) { d.mutable_content()->mutable_tokens()->add_ids(999); },
       "document.content.tokens.ids[0]"},
      {"reserved", [](auto& d) { d.mutable_content()->set_raw(std::string(1, '\0')); },
       "document.content.raw"},
      {"no positions", [](auto& d) { d.mutable_positions(); }, "document.positions.values"},
      {"position 0", [](auto& d) { d.mutable_positions()->add_values(0); },
       "document.positions.values[0]"},
      {"position beyond", [](auto& d) { d.mutable_positions()->add_values(11); },
       "document.positions.values[0]"},
      {"positions not ascending",
       [](auto& d) {
         d.mutable_positions()->add_values(5);
         d.mutable_positions()->add_values(5);
       },
       "document.positions.values[1]"},
      {"every 0", [](auto& d) { d.set_every_n(0); }, "document.every_n"},
      {"every -1", [](auto& d) { d.set_every_n(-1); }, "document.every_n"},
  };
  std::vector<v1::Document> documents = {good("first")};
  for (const BadDocument& bad : table) {
    documents.push_back(good(bad.id));
    bad.spoil(documents.back());
  }
  documents.push_back(good("last"));
  const Harvested result = session_->Harvest({}, documents);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.states.size(), 2u);
  ASSERT_EQ(result.errors.size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(result.errors[i].code(), static_cast<int>(StatusCode::INVALID_ARGUMENT));
    EXPECT_THAT(result.errors[i].message(), StartsWith(table[i].says + ":")) << table[i].id;
  }
  ASSERT_TRUE(result.summary.has_value());
  EXPECT_EQ(result.summary->errors(), static_cast<int64_t>(table.size()));
}

// Sends bytes to a method and waits for the status.
grpc::Status SendBytes(Session& session, const std::string& method, const std::string& bytes) {
  grpc::GenericStub stub(session.channel);
  grpc::ClientContext context;
  testing::SetDeadline(context);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(bytes);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer answer;
  do {
    call->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
  } while (ok);
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status;
}

std::vector<std::string> AllMethods() {
  std::vector<std::string> methods;
  for (const auto* file :
       {v1::ListModelsRequest::descriptor()->file(), v1::GetStateRequest::descriptor()->file(),
        v1::DecodeRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        std::string name = "/";
        name.append(file->service(s)->full_name()).append("/");
        methods.push_back(name.append(file->service(s)->method(m)->name()));
      }
    }
  }
  return methods;
}

TEST_F(Malformed, BytesThatAreNoMessage) {
  // A field that ends before its length; a wire type that does not exist.
  const std::vector<std::string> table = {"\x0a\x50xyz", "\x0f\xff\xff"};
  for (const std::string& method : AllMethods()) {
    for (const std::string& bytes : table) {
      const grpc::Status status = SendBytes(*session_, method, bytes);
      EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT)
          << method << ": " << status.error_message();
    }
  }
  // Field 1 is a string that is not UTF-8.
  for (const char* method :
       {"/dreamstate.v1.ModelService/GetModel", "/dreamstate.v1.ModelService/ListModelVersions",
        "/dreamstate.v1.StateService/GetState", "/dreamstate.v1.StateService/UpdateState",
        "/dreamstate.v1.StateService/DeleteState", "/dreamstate.v1.StateService/DeleteStates",
        "/dreamstate.v1.StateService/DescribeState", "/dreamstate.v1.StateService/CompareStates",
        "/dreamstate.v1.StateService/GetLineage", "/dreamstate.v1.StateService/DownloadState",
        "/dreamstate.v1.DecodeService/Decode", "/dreamstate.v1.DecodeService/Score"}) {
    const grpc::Status status = SendBytes(*session_, method, "\x0a\x02\xff\xfe");
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT)
        << method << ": " << status.error_message();
  }
}

TEST_F(Malformed, MessagesOverTheLimit) {
  const std::string huge((16 << 20) + 1, 'x');
  for (const std::string& method : AllMethods()) {
    const grpc::Status status = SendBytes(*session_, method, huge);
    EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED)
        << method << ": " << status.error_message();
  }
}

TEST_F(Malformed, MethodsThatDoNotExist) {
  for (const char* method : {"/dreamstate.v1.StateService/NoSuchMethod", "/no.Service/Method"}) {
    EXPECT_EQ(SendBytes(*session_, method, "").error_code(), StatusCode::UNIMPLEMENTED);
  }
}

}  // namespace
}  // namespace dreamstate
