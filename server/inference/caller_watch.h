// When a call came, when it must be over, and how its handler tells its jobs that the caller is
// gone.
#pragma once

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "grpcpp/server_context.h"
#include "server/inference/job.h"

namespace dreamstate::server {

struct CallTimes {
  absl::Time arrival;
  absl::Time deadline = absl::InfiniteFuture();
  std::shared_ptr<Cancellation> cancelled = std::make_shared<Cancellation>(false);
};

inline CallTimes TimesOf(const grpc::CallbackServerContext& call, const Clock& clock) {
  return {.arrival = clock.Now(), .deadline = absl::FromChrono(call.deadline())};
}

// Sets the flag that jobs read and wakes their scheduler; the scheduler may become known after the
// caller left. Thread-safe.
class CallerWatch {
 public:
  explicit CallerWatch(std::shared_ptr<Cancellation> cancelled)
      : cancelled_(std::move(cancelled)) {}

  void Follow(std::shared_ptr<Waker> waker) {
    MutexLock lock(mutex_);
    waker_ = std::move(waker);
  }
  void Gone() {
    cancelled_->store(true, std::memory_order_relaxed);
    Wake();
  }
  void Wake() {
    std::shared_ptr<Waker> waker;
    {
      MutexLock lock(mutex_);
      waker = waker_;
    }
    if (waker != nullptr) waker->Wake();
  }

 private:
  const std::shared_ptr<Cancellation> cancelled_;
  Mutex mutex_;
  std::shared_ptr<Waker> waker_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::server
