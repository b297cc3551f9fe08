#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>

#include "absl/strings/str_cat.h"
#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/state/projection.h"

namespace dreamstate::state {
namespace {

using Vector = std::vector<double>;

constexpr uint32_t kStartStream = 0x54534e45;  // "TSNE"
constexpr double kStartSize = 1e-4;            // standard deviation of the first positions
constexpr int kExaggerated = 250;              // iterations in which neighbours attract more
constexpr double kExaggeration = 12;
constexpr double kEarlyMomentum = 0.5, kMomentum = 0.8;
constexpr double kLeastGain = 0.01;
constexpr double kLeastRate = 10;  // few points fly apart at more
constexpr double kLeastAffinity = 1e-12;

// Squared distances over their mean, [n][n]; zeros when all vectors are equal.
Vector SquaredDistances(const Gram& gram) {
  const auto n = static_cast<size_t>(gram.count);
  Vector squared(n * n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const double own = gram.products[i * n + i];
    for (size_t j = 0; j < n; ++j) {
      const double both = own + gram.products[j * n + j];
      const double distance = both - 2 * gram.products[i * n + j];
      // Below this it is rounding errors.
      squared[i * n + j] = i != j && distance > 1e-13 * both ? distance : 0;
      sum += squared[i * n + j];
    }
  }
  const double mean = sum / static_cast<double>(n * (n - 1));
  if (mean > 0) {
    for (double& value : squared) value /= mean;
  }
  return squared;
}

// Replaces the squared distances of vector `own` by the probabilities of its neighbours: those of a
// Gaussian whose entropy is log(perplexity), as nearly as these distances allow.
void ToProbabilities(std::span<double> row, size_t own, double perplexity) {
  double nearest = std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < row.size(); ++j) {
    if (j != own) nearest = std::min(nearest, row[j]);
  }
  const double wanted = std::log(perplexity);
  Vector weights(row.size());
  double sum = 0, low = 0, high = std::numeric_limits<double>::infinity(), precision = 1;
  for (int step = 0; step < 100; ++step) {
    double moment = 0;
    sum = 0;
    for (size_t j = 0; j < row.size(); ++j) {
      const double distance = row[j] - nearest;
      weights[j] = j == own ? 0 : std::exp(-distance * precision);
      sum += weights[j];
      moment += weights[j] * distance;
    }
    const double excess = std::log(sum) + precision * moment / sum - wanted;
    if (std::fabs(excess) < 1e-6) break;
    (excess > 0 ? low : high) = precision;
    precision = std::isinf(high) ? precision * 2 : (low + high) / 2;
  }
  for (size_t j = 0; j < row.size(); ++j) row[j] = weights[j] / sum;
}

// Affinities of every pair, [n][n], symmetric; their sum is 1.
absl::StatusOr<Vector> Affinities(const Gram& gram, double perplexity, const Stopping& stopping) {
  const auto n = static_cast<size_t>(gram.count);
  Vector affinities = SquaredDistances(gram);
  for (size_t i = 0; i < n; ++i) {
    DS_RETURN_IF_ERROR(CheckStopping(stopping));
    ToProbabilities(std::span(affinities).subspan(i * n, n), i, perplexity);
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double both =
          (affinities[i * n + j] + affinities[j * n + i]) / static_cast<double>(2 * n);
      affinities[i * n + j] = affinities[j * n + i] = std::max(both, kLeastAffinity);
    }
    affinities[i * n + i] = 0;
  }
  return affinities;
}

// One coordinate of all points, and how it moves.
struct Axis {
  explicit Axis(size_t n) : at(n), step(n), gain(n, 1.0), attraction(n), repulsion(n) {}
  Vector at, step, gain;
  Vector attraction, repulsion;  // parts of the gradient

  void Move(double exaggeration, double total, double rate, double momentum) {
    double mean = 0;
    for (size_t i = 0; i < at.size(); ++i) {
      const double gradient = 4 * (exaggeration * attraction[i] - repulsion[i] / total);
      const bool turns = (gradient > 0) != (step[i] > 0);
      gain[i] = std::max(kLeastGain, turns ? gain[i] + 0.2 : gain[i] * 0.8);
      step[i] = momentum * step[i] - rate * gain[i] * gradient;
      at[i] += step[i];
      mean += at[i];
    }
    mean /= static_cast<double>(at.size());
    for (double& value : at) value -= mean;
  }
};

// Fills attraction and repulsion of both axes; the sum of all similarities. Point i acts on all
// points j, so that the inner loop has no sum and uses vector instructions.
double Forces(const Vector& affinities, Axis& x, Axis& y) {
  const size_t n = x.at.size();
  for (Axis* const axis : {&x, &y}) {
    std::fill(axis->attraction.begin(), axis->attraction.end(), 0.0);
    std::fill(axis->repulsion.begin(), axis->repulsion.end(), 0.0);
  }
  Vector similarity(n);
  const double* const at_x = x.at.data();
  const double* const at_y = y.at.data();
  double* const attraction_x = x.attraction.data();
  double* const attraction_y = y.attraction.data();
  double* const repulsion_x = x.repulsion.data();
  double* const repulsion_y = y.repulsion.data();
  double* const sums = similarity.data();
  for (size_t i = 0; i < n; ++i) {
    const double* const affinity = &affinities[i * n];
    const double own_x = at_x[i], own_y = at_y[i];
#ifndef __clang__  // which does not know it, and needs it less
#pragma GCC ivdep
#endif
    for (size_t j = 0; j < n; ++j) {
      const double dx = at_x[j] - own_x, dy = at_y[j] - own_y;
      const double near = 1 / (1 + dx * dx + dy * dy);
      const double pull = affinity[j] * near, push = near * near;
      attraction_x[j] += pull * dx;
      attraction_y[j] += pull * dy;
      repulsion_x[j] += push * dx;
      repulsion_y[j] += push * dy;
      sums[j] += near;
    }
  }
  double total = -static_cast<double>(n);  // a point with itself is 1 each
  for (const double sum : similarity) total += sum;
  return std::max(total, 1e-300);
}

}  // namespace

absl::StatusOr<std::vector<Point>> TsneOf(const Gram& gram, const TsneOptions& options,
                                          const Stopping& stopping) {
  if (gram.count < 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("t-SNE: expected at least 3 vectors, found ", gram.count));
  }
  if (!(options.perplexity >= 1 && options.perplexity <= gram.count - 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "t-SNE: expected a perplexity in [1, ", gram.count - 1, "], found ", options.perplexity));
  }
  DS_ASSIGN_OR_RETURN(const Vector affinities, Affinities(gram, options.perplexity, stopping));
  const auto n = static_cast<size_t>(gram.count);
  Axis x(n), y(n);
  Draws draws(options.seed, kStartStream, 0);
  for (size_t i = 0; i < n; ++i) {
    // Box and Muller.
    const double radius = kStartSize * std::sqrt(-2 * std::log(1 - draws.Uniform()));
    const double angle = 2 * std::numbers::pi * draws.Uniform();
    x.at[i] = radius * std::cos(angle);
    y.at[i] = radius * std::sin(angle);
  }
  const double rate = std::max(static_cast<double>(n) / kExaggeration / 4, kLeastRate);
  for (int iteration = 0; iteration < options.iterations; ++iteration) {
    DS_RETURN_IF_ERROR(CheckStopping(stopping));
    const bool early = iteration < kExaggerated;
    const double total = Forces(affinities, x, y);
    for (Axis* const axis : {&x, &y}) {
      axis->Move(early ? kExaggeration : 1, total, rate, early ? kEarlyMomentum : kMomentum);
    }
  }
  std::vector<Point> points(n);
  for (size_t i = 0; i < n; ++i) points[i] = {x.at[i], y.at[i]};
  return points;
}

}  // namespace dreamstate::state
