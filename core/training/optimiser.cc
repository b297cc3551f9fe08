#include "core/training/optimiser.h"

#include <cmath>
#include <utility>

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
  const double first_correction = 1.0 - std::pow(options_.beta1, static_cast<double>(steps_));
  const double second_correction = 1.0 - std::pow(options_.beta2, static_cast<double>(steps_));
  if (scale != 1.0) gradients.mul_(scale);
  first_.mul_(options_.beta1).add_(gradients, 1.0 - options_.beta1);
  second_.mul_(options_.beta2).addcmul_(gradients, gradients, 1.0 - options_.beta2);
  const torch::Tensor root = second_.sqrt().div_(std::sqrt(second_correction)).add_(options_.eps);
  int64_t begin = 0;
  for (int group = 0; group < static_cast<int>(group_sizes_.size()); ++group) {
    const int64_t size = group_sizes_[group];
    const double rate = lr * LearningRateFactor(static_cast<ParameterGroup>(group));
    const torch::Tensor part = values.narrow(0, begin, size);
    if (static_cast<ParameterGroup>(group) == ParameterGroup::kDecayed) {
      part.mul_(1.0 - rate * options_.weight_decay);
    }
    part.addcdiv_(first_.narrow(0, begin, size), root.narrow(0, begin, size),
                  -rate / first_correction);
    begin += size;
  }
}

}  // namespace dreamstate::training
