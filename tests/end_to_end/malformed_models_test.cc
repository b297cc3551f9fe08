// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <string>

#include "gtest/gtest.h"
#include "tests/end_to_end/malformed_fixture.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::kLongName;
using testing::Malformed;
using testing::Unary;

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

}  // namespace
}  // namespace dreamstate
