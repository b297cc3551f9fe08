#include "core/diffusion/safety.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/geometry.h"

namespace dreamstate::diffusion {
namespace {

constexpr int64_t kLeastStates = 20;
constexpr double kShare = 0.998;  // of real states that pass a check
// Keeps a head that hardly varies from having no range at all.
constexpr double kLeastDeviation = 1e-3;
constexpr double kRounding = 1e-6;

struct HeadSize {
  double norm = 0, spectral = 0;
};

// Of a matrix [n value][n key] without its gauge, the mean over the value axis.
HeadSize SizeOf(std::span<const float> matrix, int n) {
  const auto size = static_cast<size_t>(n);
  std::vector<float> centred(matrix.begin(), matrix.end());
  for (size_t key = 0; key < size; ++key) {
    double mean = 0;
    for (size_t value = 0; value < size; ++value) mean += double{centred[value * size + key]};
    mean /= n;
    for (size_t value = 0; value < size; ++value) {
      centred[value * size + key] -= static_cast<float>(mean);
    }
  }
  const state::HeadGeometry geometry = state::GeometryOf(centred, n);
  return {.norm = geometry.rms * n, .spectral = geometry.spectral_norm};
}

double LogOf(double value) {
  return value > 0 ? std::log(value) : -std::numeric_limits<double>::infinity();
}

double Quantile(std::vector<double> values, double share) {
  const auto at = static_cast<size_t>(std::llround(share * static_cast<double>(values.size() - 1)));
  std::ranges::nth_element(values, values.begin() + static_cast<ptrdiff_t>(at));
  return values[at];
}

// Ranges [heads][2] of the values [states][heads], by the rule in the header.
std::vector<float> RangesOf(const std::vector<std::vector<double>>& values) {
  const size_t heads = values.front().size();
  std::vector<double> median(heads), deviation(heads);
  for (size_t head = 0; head < heads; ++head) {
    std::vector<double> logs;
    for (const std::vector<double>& of_state : values) logs.push_back(of_state[head]);
    median[head] = Quantile(logs, 0.5);
    double sum = 0;
    for (const double log : logs) sum += (log - median[head]) * (log - median[head]);
    deviation[head] = std::max(std::sqrt(sum / static_cast<double>(logs.size())), kLeastDeviation);
  }
  std::vector<double> furthest;
  for (const std::vector<double>& of_state : values) {
    double most = 0;
    for (size_t head = 0; head < heads; ++head) {
      most = std::max(most, std::abs(of_state[head] - median[head]) / deviation[head]);
    }
    furthest.push_back(most);
  }
  const double limit = Quantile(std::move(furthest), kShare);
  std::vector<float> ranges;
  for (size_t head = 0; head < heads; ++head) {
    // What is just inside stays inside when the ends are rounded.
    const double width = limit * deviation[head] + kRounding;
    ranges.push_back(static_cast<float>(std::exp(median[head] - width)));
    ranges.push_back(static_cast<float>(std::exp(median[head] + width)));
  }
  return ranges;
}

// How far `value` lies outside, in the logarithm; 0 or less inside.
double Outside(double value, const float* range) {
  const double log = LogOf(value);
  return std::max(LogOf(double{range[0]}) - log, log - LogOf(double{range[1]}));
}

absl::StatusOr<std::vector<float>> Ranges(const tensors::TensorSet& set, const std::string& name,
                                          const tensors::Shape& shape) {
  DS_ASSIGN_OR_RETURN(const tensors::Tensor* tensor, set.Require(name, shape));
  std::vector<float> ranges(static_cast<size_t>(tensor->elements()));
  DS_RETURN_IF_ERROR(tensors::ToFloat(*tensor, ranges));
  for (size_t i = 0; i < ranges.size(); i += 2) {
    if (!(ranges[i] >= 0) || !(ranges[i + 1] >= ranges[i]) || !std::isfinite(ranges[i + 1])) {
      return absl::InvalidArgumentError(
          StrCat(name, ": expected ranges of numbers from 0, ascending (", set.source(), ")"));
    }
  }
  return ranges;
}

// Adds the check of one kind of size: passed when all matrices are inside.
void CheckSizes(std::string name, std::span<const double> sizes, std::span<const float> ranges,
                int heads, SafetyVerdict* verdict) {
  SafetyCheck check = {.name = std::move(name)};
  double furthest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < sizes.size(); ++i) {
    const float* range = &ranges[2 * i];
    const double outside = Outside(sizes[i], range);
    if (i > 0 && !(outside > furthest)) continue;
    furthest = outside;
    check.value = sizes[i];
    check.least = double{range[0]};
    check.most = double{range[1]};
    check.layer = static_cast<int>(i) / heads;
    check.head = static_cast<int>(i) % heads;
  }
  check.passed = furthest <= 0;
  verdict->passed = verdict->passed && check.passed;
  verdict->checks.push_back(std::move(check));
}

}  // namespace

absl::StatusOr<SafetyGate> SafetyGate::Fit(const state::Shape& shape, std::span<const float> wkv,
                                           std::span<const double> energy) {
  DS_RETURN_IF_ERROR(shape.Validate());
  const auto count = static_cast<int64_t>(energy.size());
  if (count < kLeastStates) {
    return absl::InvalidArgumentError(
        StrCat("safety gate: expected at least ", kLeastStates, " states, found ", count));
  }
  if (static_cast<int64_t>(wkv.size()) != count * shape.wkv_elements()) {
    return absl::InvalidArgumentError(StrCat("safety gate: expected ", count * shape.wkv_elements(),
                                             " numbers of ", count, " states, found ", wkv.size()));
  }
  const auto heads = static_cast<size_t>(shape.layers * shape.heads);
  const auto matrix = static_cast<size_t>(shape.head_size * shape.head_size);
  std::vector<std::vector<double>> norms, spectral, energies;
  for (size_t i = 0; i < energy.size(); ++i) {
    std::vector<double>& norm = norms.emplace_back();
    std::vector<double>& largest = spectral.emplace_back();
    for (size_t head = 0; head < heads; ++head) {
      const HeadSize size =
          SizeOf(wkv.subspan((i * heads + head) * matrix, matrix), shape.head_size);
      norm.push_back(LogOf(size.norm));
      largest.push_back(LogOf(size.spectral));
      if (!std::isfinite(norm.back()) || !std::isfinite(largest.back())) {
        return absl::InvalidArgumentError(
            StrCat("safety gate: state ", i, ": expected finite matrices other than zero"));
      }
    }
    energies.push_back({LogOf(energy[i])});
    if (!std::isfinite(energies.back()[0])) {
      return absl::InvalidArgumentError(
          StrCat("safety gate: state ", i, ": expected an energy above 0, found ", energy[i]));
    }
  }
  SafetyGate gate(shape);
  gate.norm_ = RangesOf(norms);
  gate.spectral_ = RangesOf(spectral);
  gate.energy_ = RangesOf(energies);
  return gate;
}

absl::StatusOr<SafetyGate> SafetyGate::Load(const tensors::TensorSet& set,
                                            const state::Shape& shape) {
  const int64_t l = shape.layers, h = shape.heads;
  SafetyGate gate(shape);
  DS_ASSIGN_OR_RETURN(gate.norm_, Ranges(set, "safety.norm", {l, h, 2}));
  DS_ASSIGN_OR_RETURN(gate.spectral_, Ranges(set, "safety.spectral_norm", {l, h, 2}));
  DS_ASSIGN_OR_RETURN(gate.energy_, Ranges(set, "safety.energy", {2}));
  return gate;
}

std::vector<tensors::Tensor> SafetyGate::ToTensors() const {
  const auto tensor = [](const char* name, tensors::Shape shape, const std::vector<float>& values) {
    return tensors::Tensor{.name = name,
                           .dtype = tensors::DType::kF32,
                           .shape = std::move(shape),
                           .data = std::as_bytes(std::span(values))};
  };
  const int64_t l = shape_.layers, h = shape_.heads;
  return {tensor("safety.norm", {l, h, 2}, norm_),
          tensor("safety.spectral_norm", {l, h, 2}, spectral_),
          tensor("safety.energy", {2}, energy_)};
}

SafetyVerdict SafetyGate::Check(const state::State& state, double energy) const {
  std::vector<double> norm, spectral;
  for (int layer = 0; layer < shape_.layers; ++layer) {
    for (int head = 0; head < shape_.heads; ++head) {
      const HeadSize size = SizeOf(state::HeadOf(state, layer, head), shape_.head_size);
      norm.push_back(size.norm);
      spectral.push_back(size.spectral);
    }
  }
  SafetyVerdict verdict;
  CheckSizes("norm", norm, norm_, shape_.heads, &verdict);
  CheckSizes("spectral_norm", spectral, spectral_, shape_.heads, &verdict);
  CheckSizes("energy", std::span(&energy, 1), energy_, 1, &verdict);
  verdict.checks.back().layer = verdict.checks.back().head = -1;
  return verdict;
}

}  // namespace dreamstate::diffusion
