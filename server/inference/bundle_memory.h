// Whether a bundle fits into memory, asked before anything of it is allocated: a server that runs
// out is killed by the system, with the model that serves.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "core/rwkv/config.h"
#include "core/rwkv/format_policy.h"
#include "core/rwkv/weights.h"
#include "core/tensors/tensor_set.h"
#include "server/inference/scheduler.h"

namespace dreamstate::server {

// Bytes that serving a backbone takes. The checkpoint itself is mapped and takes none that the
// system could not have back.
struct MemoryNeed {
  int64_t weights = 0;    // while they are packed (core/rwkv/footprint.h)
  int64_t states = 0;     // of running sequences, with the logits of each
  int64_t workspace = 0;  // of one forward
  int64_t state_dit = 0;  // its values, and what a batch of its states takes
  int64_t total() const { return weights + states + workspace + state_dit; }
};
// An upper bound where it is not exact. `config` is what the tensors' shapes say and is checked.
MemoryNeed EstimateMemory(const tensors::TensorSet& backbone, const rwkv::Config& config,
                          rwkv::WeightFormat format, const rwkv::FormatPolicy& policy,
                          const SchedulerOptions& options);

// Bytes of a state DiT whose tensors these are: they are read as fp32.
int64_t EstimateStateDitMemory(const tensors::TensorSet& state_dit);

// Left to everything else that happens meanwhile.
inline constexpr int64_t kMemoryReserveBytes = int64_t{32} << 20;

// RESOURCE_EXHAUSTED naming the bytes needed and those available. OK when those are unknown.
absl::Status CheckMemory(const MemoryNeed& need, std::optional<int64_t> available_bytes);

}  // namespace dreamstate::server
