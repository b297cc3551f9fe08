// Deletes expired states from the store, now and then, on a thread of its own.
#pragma once

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/state/store.h"

namespace dreamstate::server {

class ExpirySweeper {
 public:
  // `store` outlives this.
  ExpirySweeper(state::StateStore* store, absl::Duration interval);
  // Ends after the batch at hand.
  ~ExpirySweeper();
  ExpirySweeper(const ExpirySweeper&) = delete;
  ExpirySweeper& operator=(const ExpirySweeper&) = delete;

 private:
  void Run();
  void Sweep();
  bool closing() const;

  state::StateStore* const store_;
  const absl::Duration interval_;
  mutable Mutex mutex_;
  ConditionVariable changed_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::StatusCode last_code_ =
      absl::StatusCode::kOk;  // of the thread: a problem is logged when it begins
  std::thread thread_;
};

}  // namespace dreamstate::server
