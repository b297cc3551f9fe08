// Any bytes as a state record: DATA_LOSS, or a record that is written and read again unchanged.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/state/record.h"

namespace dreamstate::state {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::StatusOr<Record> record =
      ParseRecord("fuzz", {reinterpret_cast<const char*>(data), size});
  if (!record.ok()) {
    if (record.status().code() != absl::StatusCode::kDataLoss) std::abort();
    return 0;
  }
  const absl::StatusOr<std::string> again = SerializeRecord(*record);
  if (!again.ok() || !ParseRecord("again", *again).ok()) std::abort();
  return 0;
}

}  // namespace dreamstate::state
