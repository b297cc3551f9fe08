#include "core/evaluation/bootstrap.h"

#include <algorithm>
#include <cmath>

#include "core/base/draws.h"

namespace dreamstate::evaluation {
namespace {

constexpr uint32_t kResampleStream = 0x424f4f54;  // "BOOT"

// The mean over groups of the ratios of the samples that `pick(group)` gives, one a sample.
template <typename Pick>
double MeanOfPicked(std::span<const Group> groups, const Pick& pick) {
  double total = 0;
  int counted = 0;
  for (const Group& group : groups) {
    Sample all;
    for (size_t i = 0; i < group.size(); ++i) {
      const Sample& sample = pick(group, i);
      all.sum += sample.sum;
      all.weight += sample.weight;
    }
    if (all.weight <= 0) continue;
    total += all.sum / all.weight;
    ++counted;
  }
  return counted == 0 ? 0 : total / counted;
}

// Between the two nearest of the sorted values; `position` in [0, 1].
double Quantile(const std::vector<double>& sorted, double position) {
  const double at = position * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = at - static_cast<double>(below);
  return sorted[below] * (1 - part) + sorted[above] * part;
}

}  // namespace

double MeanOf(std::span<const Group> groups) {
  return MeanOfPicked(groups,
                      [](const Group& group, size_t i) -> const Sample& { return group[i]; });
}

double MeanOf(const Group& group) { return MeanOf({&group, 1}); }

Interval IntervalOf(std::span<const Group> groups, const BootstrapOptions& options) {
  std::vector<double> means(options.resamples);
  for (int resample = 0; resample < options.resamples; ++resample) {
    Draws draws(options.seed, kResampleStream, static_cast<uint32_t>(resample));
    means[resample] = MeanOfPicked(groups, [&draws](const Group& group, size_t) -> const Sample& {
      return group[draws.Below(static_cast<uint32_t>(group.size()))];
    });
  }
  std::sort(means.begin(), means.end());
  const double tail = (1 - options.confidence) / 2;
  return {Quantile(means, tail), Quantile(means, 1 - tail)};
}

Interval IntervalOf(const Group& group, const BootstrapOptions& options) {
  return IntervalOf({&group, 1}, options);
}

}  // namespace dreamstate::evaluation
