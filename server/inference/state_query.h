// Which states a request means: filters, in the form that the store takes them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"
#include "server/inference/request_limits.h"

namespace dreamstate::server {

// An answer that lists states ends before it has more bytes, so that it fits a message of any
// client's default (4 MiB), and of ours, whatever the lineages are; a state that is larger comes
// alone.
inline int64_t MaxListedBytes(const RequestLimits& limits) {
  return std::min(int64_t{3} << 20, limits.max_message_bytes / 2);
}

// INVALID_ARGUMENT with the field's path.
absl::StatusOr<state::ListQuery> ParseQuery(const v1::ListStatesRequest& request);
// INVALID_ARGUMENT also when nothing is set.
absl::StatusOr<state::ListQuery> ParseQuery(const v1::DeleteStatesRequest& request);

}  // namespace dreamstate::server
