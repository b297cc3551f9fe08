// Threads for work that may block (the state store), so that neither the engine's loop nor a gRPC
// thread ever waits for a disk.
#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/status.h"

namespace dreamstate::server {

// What `body` () -> absl::Status or absl::StatusOr<...> returns; what it throws as a status:
// RESOURCE_EXHAUSTED when memory ran out, INTERNAL otherwise. Work whose end somebody waits for
// runs through this, because an exception that leaves an executor's thread ends the process.
template <typename Body>
auto WithoutExceptions(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return QuotaError("memory", "not enough memory for this call", absl::Seconds(1));
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

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
