// Threads for work that may block (the state store), so that neither the engine's loop nor a gRPC thread ever waits for a disk.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "core/base/mutex.h"

namespace dreamstate::server {

// Runs tasks in order of arrival on a few threads. The queue has no bound of its own: whoever uses it bounds what it has
// outstanding. Thread-safe.
class Executor {
 public:
  explicit Executor(int threads);
  // Runs what was given, then joins.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void Run(std::function<void()> task);

 private:
  void Loop();

  Mutex mutex_;
  ConditionVariable changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace dreamstate::server
