// How work that takes minutes is told to end early.
#pragma once

#include <functional>

#include "absl/status/status.h"

namespace dreamstate {

// Whether to stop; empty = never. Asked at least every few hundred megabytes of work, from the
// thread that works.
using Stopping = std::function<bool()>;

// CANCELLED once it is to stop.
inline absl::Status CheckStopping(const Stopping& stopping) {
  if (stopping && stopping()) return absl::CancelledError("stopped before the work was done");
  return absl::OkStatus();
}

}  // namespace dreamstate
