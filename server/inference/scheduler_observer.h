// What a scheduler and its jobs tell about themselves, for metrics. One observer a scheduler (that
// is, a served version). Every method may be called from the loop thread or from an executor's
// thread, must be thread-safe and must return quickly.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace dreamstate::server {

// One ragged forward with everything around it.
struct StepReport {
  int sequences = 0;       // segments of the forward
  int decode_tokens = 0;   // tokens read that this server generated itself
  int prefill_tokens = 0;  // tokens read that a request brought
  absl::Duration duration;
};

class SchedulerObserver {
 public:
  virtual ~SchedulerObserver() = default;

  virtual void OnStep(const StepReport& /*report*/) {}
  // Now, whenever one of them changed; all 0 when the scheduler has ended.
  virtual void OnLoad(int /*waiting_jobs*/, int /*running_jobs*/, int /*busy_slots*/,
                      int /*slots*/) {}
  // A job was admitted after waiting this long. `kind` is "decode", "score" or "harvest".
  virtual void OnAdmitted(std::string_view /*kind*/, absl::Duration /*waited*/) {}
  // A job was refused at the door: queue full, draining.
  virtual void OnRefused(std::string_view /*kind*/) {}
  // From a decode request's arrival to its first token.
  virtual void OnFirstToken(absl::Duration /*since_arrival*/) {}
  // A branch ended: tokens it returned and the time from its first to its last.
  virtual void OnBranchDone(int64_t /*tokens*/, absl::Duration /*decode_time*/) {}
  // Tokens that needed no reading because a source state already had them.
  virtual void OnPrefixReused(int64_t /*tokens*/) {}
  // A call of the state store by a job; `operation` is "put", "get" or "describe".
  virtual void OnStoreCall(std::string_view /*operation*/, const absl::Status& /*status*/,
                           absl::Duration /*duration*/) {}
};

}  // namespace dreamstate::server
