// The training loss (spec section 3.3): mean cross entropy with L2Wrap. Internal to core/training:
// shows torch types.
#pragma once

#include <torch/torch.h>

#include "core/training/batch.h"
#include "core/training/learner.h"

namespace dreamstate::training {

// logits [M][V] of any float type; targets [M] int64, -1 = not scored. The sum of -ln p(target)
// over scored rows divided by `scored`, as a scalar of at least fp32. L2Wrap leaves the value alone
// and adds 1e-4 / scored times the largest logit of each scored row to that logit's gradient.
// `scored` is that of the whole batch, so that parts of it add up.
torch::Tensor CrossEntropy(const torch::Tensor& logits, const torch::Tensor& targets,
                           double scored);

// The positions of a batch that have a target: the others need no logits.
struct ScoredPositions {
  torch::Tensor at;       // [M] of rows * T
  torch::Tensor targets;  // [M]
  torch::Tensor row;      // [M], the first one is 0
};
// Of `rows` rows from `first` on.
ScoredPositions FindScored(const Batch& batch, int first, int rows, torch::Device device);

// By row: nll, how many are scored, how many are the arg-max. logits [M][V] -> [3][rows], fp64 on
// the CPU.
torch::Tensor ScoreRows(const torch::Tensor& logits, const ScoredPositions& scored, int rows);
EvaluationResult ResultOf(const torch::Tensor& of_rows);

}  // namespace dreamstate::training
