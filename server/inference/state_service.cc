#include "server/inference/state_service.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/paging.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

constexpr size_t kMaxEtagBytes = 128;

// Calls the store and reports it.
template <typename Call>
auto Measured(Metrics& metrics, std::string_view operation, const Call& call) {
  const absl::Time start = absl::Now();
  auto result = call();
  absl::Status status;
  if constexpr (std::is_same_v<decltype(result), absl::Status>) {
    status = result;
  } else {
    status = result.status();
  }
  metrics.OnStoreCall(operation, status, absl::Now() - start);
  return result;
}

absl::Status CheckEtag(const std::string& etag) {
  if (etag.size() <= kMaxEtagBytes) return absl::OkStatus();
  return FieldError("etag",
                    StrCat("expected at most ", kMaxEtagBytes, " bytes, found ", etag.size()));
}

bool IsFingerprint(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

absl::StatusOr<state::ListQuery> ParseQuery(const v1::ListStatesRequest& request) {
  state::ListQuery query;
  DS_ASSIGN_OR_RETURN(query.page_size, ParsePageSize(request.page_size()));
  query.page_token = request.page_token();
  if (!request.model().empty()) {
    DS_ASSIGN_OR_RETURN(query.model, ParseModelName("model", request.model()));
  }
  state::Annotations wanted;
  wanted.labels.assign(request.labels().begin(), request.labels().end());
  DS_RETURN_IF_ERROR(state::NormaliseAnnotations(&wanted));
  query.labels = std::move(wanted.labels);
  if (!request.parent().empty()) {
    DS_ASSIGN_OR_RETURN(query.parent, ParseStateName("parent", request.parent()));
  }
  if (!request.backbone_fingerprint().empty()) {
    if (!IsFingerprint(request.backbone_fingerprint())) {
      return FieldError("backbone_fingerprint", "expected 64 lower-case hexadecimal digits");
    }
    query.fingerprint = request.backbone_fingerprint();
  }
  switch (request.order()) {
    case v1::ListStatesRequest::ORDER_UNSPECIFIED:
    case v1::ListStatesRequest::NEWEST_FIRST:
      break;
    case v1::ListStatesRequest::OLDEST_FIRST:
      query.oldest_first = true;
      break;
    default:
      return FieldError("order", StrCat("no such order: ", static_cast<int>(request.order())));
  }
  return query;
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

absl::Status ListStates(state::StateStore& store, Metrics& metrics,
                        const v1::ListStatesRequest& request, v1::ListStatesResponse* response) {
  DS_ASSIGN_OR_RETURN(const state::ListQuery query, ParseQuery(request));
  DS_ASSIGN_OR_RETURN(const state::ListPage page,
                      Measured(metrics, "list", [&] { return store.List(kTenant, query); }));
  for (const state::Description& description : page.states) {
    *response->add_states() = ToMessage(description);
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
    : context_(context), metrics_(metrics), harvester_(context) {}

grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>*
StateService::HarvestStates(grpc::CallbackServerContext* context) {
  return harvester_.Start(context);
}

grpc::ServerUnaryReactor* StateService::GetState(grpc::CallbackServerContext* context,
                                                 const v1::GetStateRequest* request,
                                                 v1::State* response) {
  return RunUnary(*context_.executor, context, [=, this] {
    return server::GetState(*context_.store, *metrics_, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::ListStates(grpc::CallbackServerContext* context,
                                                   const v1::ListStatesRequest* request,
                                                   v1::ListStatesResponse* response) {
  return RunUnary(*context_.executor, context, [=, this] {
    return server::ListStates(*context_.store, *metrics_, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::UpdateState(grpc::CallbackServerContext* context,
                                                    const v1::UpdateStateRequest* request,
                                                    v1::State* response) {
  return RunUnary(*context_.executor, context, [=, this] {
    return server::UpdateState(*context_.store, *metrics_, *request, response);
  });
}

grpc::ServerUnaryReactor* StateService::DeleteState(grpc::CallbackServerContext* context,
                                                    const v1::DeleteStateRequest* request,
                                                    v1::DeleteStateResponse* /*response*/) {
  return RunUnary(*context_.executor, context,
                  [=, this] { return server::DeleteState(*context_.store, *metrics_, *request); });
}

}  // namespace dreamstate::server
