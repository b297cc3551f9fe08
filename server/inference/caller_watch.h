// When a call came, when it must be over, and how its handler tells its jobs that the caller is
// gone.
#pragma once

#include <functional>
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
  // What ends a wait that no scheduler knows of, to be called when the caller leaves and never
  // under a lock of the call's. Whoever waits looks at the flag after this.
  void WhenGone(std::function<void()> then) {
    MutexLock lock(mutex_);
    when_gone_ = std::move(then);
  }
  void Gone() {
    if (const std::function<void()> then = Leave()) then();
  }
  // The same for who holds a lock: what is left to be called without it, maybe nothing.
  [[nodiscard]] std::function<void()> Leave() {
    cancelled_->store(true, std::memory_order_relaxed);
    Wake();
    MutexLock lock(mutex_);
    return std::exchange(when_gone_, nullptr);
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
  std::function<void()> when_gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::server
