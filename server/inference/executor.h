// Threads for work that may block (the state store), so that neither the engine's loop nor a gRPC
// thread ever waits for a disk.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "core/base/mutex.h"

namespace dreamstate::server {

// Runs work in order of arrival on a few threads, with a bounded queue. Thread-safe.
class Executor {
 public:
  Executor(int threads, size_t max_queued);
  // Runs what was taken, then joins.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False, and `work` is not taken, when the queue is full.
  [[nodiscard]] bool TrySubmit(std::function<void()> work);

 private:
  void Run();

  const size_t max_queued_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace dreamstate::server
