// Which states a request means: filters, in the form that the store takes them.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"

namespace dreamstate::server {

// An answer that lists states ends before it has more bytes, so that it fits a message of any
// client's default (4 MiB) whatever the lineages are; a state that is larger comes alone.
inline constexpr int64_t kMaxListedBytes = int64_t{3} << 20;

// INVALID_ARGUMENT with the field's path.
absl::StatusOr<state::ListQuery> ParseQuery(const v1::ListStatesRequest& request);
// INVALID_ARGUMENT also when nothing is set.
absl::StatusOr<state::ListQuery> ParseQuery(const v1::DeleteStatesRequest& request);

}  // namespace dreamstate::server
