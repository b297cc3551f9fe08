// The states that a learner keeps for later rows to begin from (core/training/batch.h). Internal to
// core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <span>

#include "core/training/backbone.h"
#include "core/training/batch.h"
#include "core/training/process_group.h"

namespace dreamstate::training {

class StateBank {
 public:
  // `slots` zero states; 0 keeps none.
  StateBank(int slots, const BackboneSizes& sizes, torch::Device device);

  int slots() const { return slots_; }
  // The initial states of these rows: undefined when all begin from zero.
  BackboneState Start(std::span<const Row> rows) const;
  // Keeps the final states of the rows that name a slot.
  void Keep(std::span<const Row> rows, const BackboneState& final_state);

  // Gives every rank what each of them kept of a global batch; all of them call it.
  void Exchange(std::span<const Row> rows, const Ranks& ranks, ProcessGroup& group);

  // [slots][L][2][D] and [slots][L][H][N][N].
  const torch::Tensor& shift() const { return shift_; }
  const torch::Tensor& wkv() const { return wkv_; }

 private:
  int slots_;
  torch::Tensor shift_, wkv_;
};

}  // namespace dreamstate::training
