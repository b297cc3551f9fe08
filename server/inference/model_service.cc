#include "server/inference/model_service.h"

#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/errors.h"
#include "server/inference/model_messages.h"
#include "server/inference/paging.h"
#include "server/inference/resource_names.h"

namespace dreamstate::server {
namespace {

absl::Status ListModels(const ModelHost& host, const v1::ListModelsRequest& request,
                        v1::ListModelsResponse* response) {
  DS_ASSIGN_OR_RETURN(const int page_size, ParsePageSize(request.page_size()));
  DS_ASSIGN_OR_RETURN(const std::optional<std::string> last,
                      ParsePageToken("models", request.page_token()));
  for (const ModelStatus& status : host.Models()) {
    if (last && status.model <= *last) continue;
    if (response->models_size() == page_size) {
      const std::string& name = response->models(page_size - 1).name();
      response->set_next_page_token(MakePageToken("models", name.substr(name.find('/') + 1)));
      break;
    }
    *response->add_models() = ToMessage(status);
  }
  return absl::OkStatus();
}

absl::Status GetModel(const ModelHost& host, const v1::GetModelRequest& request,
                      v1::Model* response) {
  DS_ASSIGN_OR_RETURN(const std::string model, ParseModelName("name", request.name()));
  DS_ASSIGN_OR_RETURN(const ModelStatus status, host.Model(model));
  *response = ToMessage(status);
  return absl::OkStatus();
}

absl::Status ListModelVersions(const ModelHost& host, const v1::ListModelVersionsRequest& request,
                               v1::ListModelVersionsResponse* response) {
  DS_ASSIGN_OR_RETURN(const std::string model, ParseModelName("parent", request.parent()));
  DS_ASSIGN_OR_RETURN(const int page_size, ParsePageSize(request.page_size()));
  const std::string list = StrCat("versions of ", model);
  DS_ASSIGN_OR_RETURN(const std::optional<std::string> last,
                      ParsePageToken(list, request.page_token()));
  int64_t before = 0;
  if (last && !absl::SimpleAtoi(*last, &before)) {
    return FieldError("page_token", "not a page token of this list");
  }
  DS_ASSIGN_OR_RETURN(const ModelStatus status, host.Model(model));
  for (const VersionStatus& version : status.versions) {
    if (last && version.version >= before) continue;
    if (response->versions_size() == page_size) {
      response->set_next_page_token(
          MakePageToken(list, StrCat(response->versions(page_size - 1).version())));
      break;
    }
    *response->add_versions() = ToMessage(status, version);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* request,
                                                   v1::ListModelsResponse* response) {
  return Answer(context, server::ListModels(*host_, *request, response));
}

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::Model* response) {
  return Answer(context, server::GetModel(*host_, *request, response));
}

grpc::ServerUnaryReactor* ModelService::ListModelVersions(
    grpc::CallbackServerContext* context, const v1::ListModelVersionsRequest* request,
    v1::ListModelVersionsResponse* response) {
  return Answer(context, server::ListModelVersions(*host_, *request, response));
}

}  // namespace dreamstate::server
