#include "server/inference/state_service.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/page_token.h"
#include "server/inference/delete_states.h"
#include "server/inference/describe_state.h"
#include "server/inference/lineage_graph.h"
#include "server/inference/migrate_state.h"
#include "server/inference/project_states.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/state_query.h"
#include "server/inference/store_call.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

constexpr size_t kMaxEtagBytes = 128;

absl::Status CheckEtag(const std::string& etag) {
  if (etag.size() <= kMaxEtagBytes) return absl::OkStatus();
  return FieldError("etag",
                    StrCat("expected at most ", kMaxEtagBytes, " bytes, found ", etag.size()));
}

// What an update changes.
struct Change {
  std::optional<std::vector<std::string>> labels;
  std::optional<absl::Duration> time_to_live;
};

absl::StatusOr<Change> ParseChange(const v1::UpdateStateRequest& request) {
  bool labels = request.update_mask().paths().empty();
  bool time_to_live = labels;
  for (int i = 0; i < request.update_mask().paths_size(); ++i) {
    const std::string& path = request.update_mask().paths(i);
    if (path == "labels") {
      labels = true;
    } else if (path == "time_to_live") {
      time_to_live = true;
    } else {
      return FieldError(StrCat("update_mask.paths[", i, "]"),
                        "expected \"labels\" or \"time_to_live\"");
    }
  }
  absl::StatusOr<state::Annotations> annotations = FromMessage(request.annotations());
  if (!annotations.ok()) return WithFieldPrefix(annotations.status(), "annotations");
  Change change;
  if (labels) change.labels = std::move(annotations->labels);
  if (time_to_live) change.time_to_live = annotations->time_to_live;
  return change;
}

absl::Status GetState(state::StateStore& store, Metrics& metrics,
                      const v1::GetStateRequest& request, v1::State* response) {
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("name", request.name()));
  DS_ASSIGN_OR_RETURN(const state::Description description,
                      Measured(metrics, "describe", [&] { return store.Describe(kTenant, id); }));
  *response = ToMessage(description);
  return absl::OkStatus();
}

absl::Status ListStates(state::StateStore& store, Metrics& metrics, int64_t max_bytes,
                        const v1::ListStatesRequest& request, v1::ListStatesResponse* response) {
  DS_ASSIGN_OR_RETURN(const state::ListQuery query, ParseQuery(request));
  DS_ASSIGN_OR_RETURN(const state::ListPage page,
                      Measured(metrics, "list", [&] { return store.List(kTenant, query); }));
  int64_t bytes = 0;
  std::string last;
  for (const state::Description& description : page.states) {
    v1::State message = ToMessage(description);
    bytes += static_cast<int64_t>(message.ByteSizeLong());
    if (bytes > max_bytes && response->states_size() > 0) {
      response->set_next_page_token(state::MakePageToken(kTenant, query, last));
      return absl::OkStatus();
    }
    last = description.record.id;
    *response->add_states() = std::move(message);
  }
  response->set_next_page_token(page.next_page_token);
  return absl::OkStatus();
}

absl::Status UpdateState(state::StateStore& store, Metrics& metrics,
                         const v1::UpdateStateRequest& request, v1::State* response) {
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("name", request.name()));
  DS_ASSIGN_OR_RETURN(const Change change, ParseChange(request));
  DS_RETURN_IF_ERROR(CheckEtag(request.etag()));
  DS_ASSIGN_OR_RETURN(const state::Description description, Measured(metrics, "update", [&] {
                        return store.Update(kTenant, id, request.etag(), change.labels,
                                            change.time_to_live);
                      }));
  *response = ToMessage(description);
  return absl::OkStatus();
}

absl::Status DeleteState(state::StateStore& store, Metrics& metrics,
                         const v1::DeleteStateRequest& request) {
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("name", request.name()));
  DS_RETURN_IF_ERROR(CheckEtag(request.etag()));
  return Measured(metrics, "delete", [&] { return store.Delete(kTenant, id, request.etag()); });
}

}  // namespace

StateService::StateService(const ServingContext& context, Metrics* metrics)
    : context_(context),
      metrics_(metrics),
      memory_(std::make_shared<RequestMemory>()),
      harvester_(context),
      uploads_(context, metrics, memory_),
      downloads_(context, metrics) {}

template <typename Body>
grpc::ServerUnaryReactor* StateService::Run(grpc::CallbackServerContext* context, Body body) {
  return RunUnary(*context_.executor, context, std::move(body));
}

template <typename Body>
grpc::ServerUnaryReactor* StateService::RunGeometry(grpc::CallbackServerContext* context,
                                                    Body body) {
  absl::StatusOr<Places::Place> place = geometry_.Take();
  if (!place.ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(place.status()));
    return reactor;
  }
  // Given back when the body has run, before the caller has its answer.
  return Run(context,
             [held = std::make_shared<Places::Place>(*std::move(place)), body = std::move(body)] {
               const Places::Place until_return = std::move(*held);
               return body();
             });
}

template <typename Request, typename Response, typename Body>
grpc::ServerUnaryReactor* StateService::RunOnce(const char* method,
                                                grpc::CallbackServerContext* context,
                                                const Request* request, Response* response,
                                                Body body) {
  return RunUnaryOnce(*memory_, method, context, request, response,
                      [=, this](std::function<void(absl::Status)> done) {
                        RunOnExecutor(*context_.executor, context, body, std::move(done));
                      });
}

grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>*
StateService::HarvestStates(grpc::CallbackServerContext* context) {
  return harvester_.Start(context);
}

grpc::ServerUnaryReactor* StateService::GetState(grpc::CallbackServerContext* context,
                                                 const v1::GetStateRequest* request,
                                                 v1::State* response) {
  return Run(context, [=, this] {
    return server::GetState(*context_.store, *metrics_, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::ListStates(grpc::CallbackServerContext* context,
                                                   const v1::ListStatesRequest* request,
                                                   v1::ListStatesResponse* response) {
  return Run(context, [=, this] {
    return server::ListStates(*context_.store, *metrics_, MaxListedBytes(context_.limits), *request,
                              response);
  });
}

grpc::ServerUnaryReactor* StateService::UpdateState(grpc::CallbackServerContext* context,
                                                    const v1::UpdateStateRequest* request,
                                                    v1::State* response) {
  return RunOnce("UpdateState", context, request, response, [=, this] {
    return server::UpdateState(*context_.store, *metrics_, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::DeleteState(grpc::CallbackServerContext* context,
                                                    const v1::DeleteStateRequest* request,
                                                    v1::DeleteStateResponse* response) {
  return RunOnce("DeleteState", context, request, response,
                 [=, this] { return server::DeleteState(*context_.store, *metrics_, *request); });
}

grpc::ServerUnaryReactor* StateService::DeleteStates(grpc::CallbackServerContext* context,
                                                     const v1::DeleteStatesRequest* request,
                                                     v1::DeleteStatesResponse* response) {
  return RunUnaryOnce(*memory_, "DeleteStates", context, request, response,
                      [=, this](std::function<void(absl::Status)> done) {
                        server::DeleteStates(context_, metrics_, context, *request, response,
                                             std::move(done));
                      });
}

grpc::ServerReadReactor<v1::UploadStateRequest>* StateService::UploadState(
    grpc::CallbackServerContext* context, v1::State* response) {
  return uploads_.Start(context, response);
}

grpc::ServerWriteReactor<v1::DownloadStateResponse>* StateService::DownloadState(
    grpc::CallbackServerContext* context, const v1::DownloadStateRequest* request) {
  return downloads_.Start(context, *request);
}

grpc::ServerUnaryReactor* StateService::DescribeState(grpc::CallbackServerContext* context,
                                                      const v1::DescribeStateRequest* request,
                                                      v1::DescribeStateResponse* response) {
  return RunGeometry(context, [=, this] {
    return server::DescribeState(context_, *metrics_, *context, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::CompareStates(grpc::CallbackServerContext* context,
                                                      const v1::CompareStatesRequest* request,
                                                      v1::CompareStatesResponse* response) {
  return RunGeometry(context, [=, this] {
    return server::CompareStates(*context_.store, *metrics_, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::ProjectStates(grpc::CallbackServerContext* context,
                                                      const v1::ProjectStatesRequest* request,
                                                      v1::ProjectStatesResponse* response) {
  return RunGeometry(context, [=, this] {
    return server::ProjectStates(context_, *metrics_, *context, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::MigrateState(grpc::CallbackServerContext* context,
                                                     const v1::MigrateStateRequest* request,
                                                     v1::State* response) {
  return RunUnaryOnce(*memory_, "MigrateState", context, request, response,
                      [=, this](std::function<void(absl::Status)> done) {
                        server::MigrateState(context_, metrics_, &migrating_tokens_, context,
                                             *request, response, std::move(done));
                      });
}

grpc::ServerUnaryReactor* StateService::GetLineage(grpc::CallbackServerContext* context,
                                                   const v1::GetLineageRequest* request,
                                                   v1::GetLineageResponse* response) {
  return Run(context, [=, this] {
    return server::GetLineage(context_, *metrics_, *context, *request, response);
  });
}

}  // namespace dreamstate::server
