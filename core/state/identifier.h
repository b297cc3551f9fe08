// Names of states: 26 characters of Crockford's base 32 in lower case, 48 bits of milliseconds
// since 1970 and then 80 random bits, so that the order of names is the order of making.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace dreamstate::state {

inline constexpr size_t kIdBytes = 26;

// True for a name that IdSource can have made.
bool IsStateId(std::string_view text);

// Makes names. Each is greater than all before it from the same source, also within a millisecond
// and when the clock steps back. Thread-safe.
class IdSource {
 public:
  std::string Next(absl::Time now);

 private:
  Mutex mutex_;
  uint64_t last_ms_ ABSL_GUARDED_BY(mutex_) = 0;
  // The random part of the last name: 16 bits and 64 bits.
  uint64_t last_high_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_low_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace dreamstate::state
