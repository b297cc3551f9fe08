#include "server/inference/state_query.h"

#include <string>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/paging.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {
namespace {

// The filters that requests have in common.
template <typename Request>
absl::StatusOr<state::ListQuery> ParseFilters(const Request& request) {
  state::ListQuery query;
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
  return query;
}

}  // namespace

absl::StatusOr<state::ListQuery> ParseQuery(const v1::ListStatesRequest& request) {
  DS_ASSIGN_OR_RETURN(const int page_size, ParsePageSize(request.page_size()));
  DS_ASSIGN_OR_RETURN(state::ListQuery query, ParseFilters(request));
  query.page_size = page_size;
  query.page_token = request.page_token();
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

absl::StatusOr<state::ListQuery> ParseQuery(const v1::DeleteStatesRequest& request) {
  DS_ASSIGN_OR_RETURN(state::ListQuery query, ParseFilters(request));
  if (request.has_created_before()) {
    DS_ASSIGN_OR_RETURN(query.created_before,
                        FromTimestampMessage("created_before", request.created_before()));
  }
  const bool filtered = !query.model.empty() || !query.labels.empty() || !query.parent.empty() ||
                        !query.fingerprint.empty() || request.has_created_before();
  if (!filtered && !request.all()) {
    return FieldError("all", "expected a filter, or all for every state");
  }
  return query;
}

}  // namespace dreamstate::server
