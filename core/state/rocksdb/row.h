// The mutable row that the store keeps beside a record: what Describe and List answer without
// touching tensors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/state/store.h"

namespace dreamstate::state {

struct Row {
  Description description;
  int64_t stored_bytes = 0;  // of the serialized record; 0 for a stub
  int64_t revision = 1;      // counts changes; the etag
  std::string damage;        // why the record was set aside; empty = whole
};

absl::StatusOr<std::string> RowToText(const Row& row);
// INVALID_ARGUMENT when the text is not a row.
absl::StatusOr<Row> RowFromText(std::string_view text);

}  // namespace dreamstate::state
