#include "core/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dreamstate::training {

double LearningRate(const Schedule& schedule, int64_t step) {
  const double span = static_cast<double>(schedule.steps - schedule.warmup_steps);
  const double behind = static_cast<double>(step - schedule.warmup_steps);
  // A run no longer than its warm-up never leaves the full rate.
  const double progress = span > 0 ? std::clamp(behind / span, 0.0, 1.0) : 0.0;
  const double floor = schedule.lr_final / schedule.lr;
  double lr =
      schedule.lr * ((0.5 + floor / 2) + (0.5 - floor / 2) * std::cos(std::numbers::pi * progress));
  if (step < schedule.warmup_steps) {
    lr *= 0.01 + 0.99 * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  }
  return lr;
}

}  // namespace dreamstate::training
