#include "core/training/optimiser.h"

#include <utility>
#include <vector>

namespace dreamstate::training {

ParameterGroup GroupOf(const std::string& name, const std::vector<int64_t>& shape) {
  if (name.find("att.w0") != std::string::npos) return ParameterGroup::kDecay;
  int dimensions = 0;
  for (const int64_t size : shape) dimensions += size > 1 ? 1 : 0;
  if (dimensions >= 2 && name.find(".weight") != std::string::npos) {
    return ParameterGroup::kDecayed;
  }
  return ParameterGroup::kOrdinary;
}

double LearningRateFactor(ParameterGroup group) {
  return group == ParameterGroup::kDecay ? 2.0 : 1.0;
}

AdamW::AdamW(const OptimiserOptions& options, const torch::Tensor& values,
             std::vector<int64_t> group_sizes)
    : options_(options),
      group_sizes_(std::move(group_sizes)),
      first_(torch::zeros_like(values)),
      second_(torch::zeros_like(values)) {}

void AdamW::Step(const torch::Tensor& values, const torch::Tensor& gradients, double lr,
                 double scale) {
  const torch::NoGradGuard no_gradients;
  ++steps_;
  if (scale != 1.0) gradients.mul_(scale);
  const torch::Tensor steps =
      torch::full({}, static_cast<double>(steps_), values.options().dtype(torch::kFloat));
  int64_t begin = 0;
  for (int group = 0; group < static_cast<int>(group_sizes_.size()); ++group) {
    const int64_t size = group_sizes_[group];
    const double rate = lr * LearningRateFactor(static_cast<ParameterGroup>(group));
    const bool decayed = static_cast<ParameterGroup>(group) == ParameterGroup::kDecayed;
    const auto part = [&](const torch::Tensor& whole) {
      return std::vector<torch::Tensor>{whole.narrow(0, begin, size)};
    };
    if (size > 0) {
      // All of it in one pass over memory.
      torch::_fused_adamw_(part(values), part(gradients), part(first_), part(second_), {}, {steps},
                           rate, options_.beta1, options_.beta2,
                           decayed ? options_.weight_decay : 0.0, options_.eps,
                           /*amsgrad=*/false, /*maximize=*/false);
    }
    begin += size;
  }
}

}  // namespace dreamstate::training
