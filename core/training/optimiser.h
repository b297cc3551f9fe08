// AdamW as RWKV-LM trains with it (spec section 3.2): decoupled weight decay, bias correction, eps
// outside of the root, over one flat tensor whose parameters lie group by group. Internal to
// core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "core/training/learner_options.h"

namespace dreamstate::training {

// The official groups, in the order in which parameters lie in memory.
enum class ParameterGroup {
  kDecayed,   // matrices named .weight: learning rate x 1, weight decay
  kDecay,     // att.w0: learning rate x 2, no weight decay
  kOrdinary,  // all others: learning rate x 1, no weight decay
};
inline constexpr int kParameterGroups = 3;
ParameterGroup GroupOf(const std::string& name, const std::vector<int64_t>& shape);
double LearningRateFactor(ParameterGroup group);

class AdamW {
 public:
  // `group_sizes`: elements of each group, in order. Keeps moments like `values`.
  AdamW(const OptimiserOptions& options, const torch::Tensor& values,
        std::vector<int64_t> group_sizes);

  // One step. `scale` multiplies the gradients first (clipping). A gradient of exactly zero since
  // the first step moves nothing but by weight decay.
  void Step(const torch::Tensor& values, const torch::Tensor& gradients, double lr, double scale);

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  const torch::Tensor& first_moment() const { return first_; }
  const torch::Tensor& second_moment() const { return second_; }

 private:
  OptimiserOptions options_;
  std::vector<int64_t> group_sizes_;
  torch::Tensor first_, second_;
  int64_t steps_ = 0;
};

}  // namespace dreamstate::training
