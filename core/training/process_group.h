// The ranks of one run adding up what each of them computed: torch's c10d, gloo between CPUs, NCCL
// between GPUs where that was built. Internal to core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <memory>

#include "core/training/ranks.h"

namespace dreamstate::training {

// Every rank makes the same calls in the same order. They throw when a rank is gone; a rank that is
// silent for half an hour counts as gone. Not thread-safe.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  // Replaces a contiguous tensor by its sum over the ranks, the same to the bit on each.
  virtual void Sum(torch::Tensor tensor) = 0;
  // Replaces a contiguous tensor by that of rank 0.
  virtual void Broadcast(torch::Tensor tensor) = 0;
};

// Waits for the others. A rank alone may have a group, too: what it sums stays what it is.
std::unique_ptr<ProcessGroup> JoinRanks(const Ranks& ranks, torch::Device device);

}  // namespace dreamstate::training
