// Time, injected so that tests need not wait.
#pragma once

#include "absl/time/time.h"

namespace dreamstate {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  // The system's clock.
  static const Clock& Real();
};

}  // namespace dreamstate
