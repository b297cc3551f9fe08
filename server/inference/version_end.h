// How a served version tells what still works on it to end. One a version: versions that share a
// scheduler end one by one. Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/base/mutex.h"

namespace dreamstate::server {

class VersionEnd {
 public:
  // OK until End, then its reason. Cheap: jobs look at every step.
  absl::Status status() const {
    return ended_.load(std::memory_order_acquire) ? reason_ : absl::OkStatus();
  }

  // Once. `reason` is not OK.
  void End(absl::Status reason) {
    std::vector<std::shared_ptr<Watcher>> watchers;
    {
      MutexLock lock(mutex_);
      if (ended_.load(std::memory_order_relaxed)) return;
      reason_ = std::move(reason);
      ended_.store(true, std::memory_order_release);
      watchers.swap(watchers_);
    }
    for (const std::shared_ptr<Watcher>& watcher : watchers) watcher->Tell(reason_);
  }

  // Until the result goes, `callback` is told of the end, once; right here when it was before. It
  // must not drop the result itself. For those that wait for a caller and have no job.
  using Callback = std::function<void(const absl::Status&)>;
  std::shared_ptr<void> Watch(Callback callback) {
    auto watcher = std::make_shared<Watcher>(std::move(callback));
    {
      MutexLock lock(mutex_);
      if (!ended_.load(std::memory_order_relaxed)) {
        std::erase_if(watchers_, [](const auto& known) { return known->gone(); });
        watchers_.push_back(watcher);
        return {nullptr, [watcher](void*) { watcher->Forget(); }};
      }
    }
    watcher->Tell(reason_);
    return nullptr;
  }

 private:
  class Watcher {
   public:
    explicit Watcher(Callback callback) : callback_(std::move(callback)) {}
    void Tell(const absl::Status& reason) {
      MutexLock lock(mutex_);
      if (callback_) callback_(reason);
    }
    void Forget() {
      MutexLock lock(mutex_);
      callback_ = nullptr;
    }
    bool gone() {
      MutexLock lock(mutex_);
      return !callback_;
    }

   private:
    Mutex mutex_;
    Callback callback_ ABSL_GUARDED_BY(mutex_);
  };

  std::atomic<bool> ended_ = false;
  absl::Status reason_;  // written once, before ended_
  Mutex mutex_;
  std::vector<std::shared_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::server
