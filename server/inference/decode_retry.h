// What a decode with save_state.request_id leaves for its retries: the seed, and the states that it
// saved. Kept in the RequestMemory from the first call's turn on, so that also a call that was cut
// off is retried with its seed and without saving a state twice. Thread-safe; the turn ends with
// the last hold on this.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "server/inference/request_memory.h"

namespace dreamstate::server {

class DecodeRetry {
 public:
  // What computes: states of one do not belong to texts of another.
  struct Backbone {
    std::string fingerprint;
    std::string numerics;
    friend bool operator==(const Backbone&, const Backbone&) = default;
  };

  // `*seed` becomes the first call's. ABORTED when that one saved states on another backbone or
  // with other numerics, whose text this one would not give.
  static absl::StatusOr<std::shared_ptr<DecodeRetry>> Begin(RequestMemory::Admission admission,
                                                            const Backbone& backbone,
                                                            uint64_t* seed);

  // The state that an earlier call saved for the branch; empty = none.
  std::string Known(int branch) const;
  // The branch's state is durable.
  void Saved(int branch, const std::string& id);
  // Every branch has its state: the call has succeeded.
  void Succeeded();

 private:
  std::string Describe() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::shared_ptr<RequestMemory::Turn> turn_;  // null: the call succeeded before
  std::function<void(std::string)> replace_;   // then: what it remembers
  Backbone backbone_;
  uint64_t seed_ = 0;
  mutable Mutex mutex_;
  std::map<int, std::string> states_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::server
