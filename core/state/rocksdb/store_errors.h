// What the store answers about one state; names are as the public contract writes them
// ("states/{id}").
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/rocksdb/row.h"

namespace dreamstate::state {

inline absl::Status StateNotFound(std::string_view id) {
  return ResourceError(absl::StatusCode::kNotFound, "state", StrCat("states/", id),
                       "does not exist");
}

inline absl::Status StateDamaged(std::string_view id, std::string_view reason) {
  return ResourceError(absl::StatusCode::kDataLoss, "state", StrCat("states/", id),
                       StrCat("is damaged and was set aside: ", reason));
}

inline absl::Status CheckEtag(std::string_view given, const Row& row) {
  const Description& description = row.description;
  if (given.empty() || given == description.etag) return absl::OkStatus();
  return ResourceError(
      absl::StatusCode::kAborted, "state", StrCat("states/", description.record.id),
      StrCat("has changed: its etag is ", description.etag, ", not the one given"));
}

inline bool IsExpired(const Row& row, absl::Time now) {
  const std::optional<absl::Time>& expires = row.description.expires;
  return expires.has_value() && *expires <= now;
}

}  // namespace dreamstate::state
