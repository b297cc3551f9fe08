#include "core/evaluation/state_statistics.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "core/base/strings.h"
#include "core/state/geometry.h"

namespace dreamstate::evaluation {
namespace {

using torch::Tensor;

constexpr int kNeighbours = 10;

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

// The numbers that each state has by itself, averaged.
void DescribeEach(const ChosenStates& states, int layer, int head, HeadStatistics* out) {
  const auto count = static_cast<double>(states.size());
  const int n = states.shape.head_size;
  double norms = 0, squares = 0;
  for (size_t i = 0; i < states.size(); ++i) {
    const state::HeadGeometry geometry = state::GeometryOf(states.Head(i, layer, head), n);
    const double norm = geometry.rms * n;
    norms += norm;
    squares += norm * norm;
    out->spectral_norm += geometry.spectral_norm / count;
    out->stable_rank += geometry.stable_rank / count;
    out->first_energy += Ratio(1, geometry.stable_rank) / count;
  }
  const double mean = norms / count;
  out->rms = std::sqrt(squares / count) / n;
  out->norm_variation = Ratio(std::sqrt(std::max(0.0, squares / count - mean * mean)), mean);
}

// Those of all states [n][N value][N key] of a head together.
void DescribeTogether(const Tensor& all, const Tensor& projected, HeadStatistics* out) {
  const auto number = [](const Tensor& tensor) { return tensor.item<double>(); };
  const double energy = number(all.square().sum());
  const double kept = number(projected.square().sum());
  out->gauge_energy = std::max(0.0, Ratio(energy - kept, energy));
  out->mean_energy =
      Ratio(number(projected.mean(0).square().sum()) * static_cast<double>(all.size(0)), kept);
  const Tensor squares = (all - all.mean()).square();
  const double variance = number(squares.mean());
  out->kurtosis = Ratio(number(squares.square().mean()), variance * variance);
}

// Of one state, whose squared distances to all states are `distances`.
double PurityOf(std::span<const float> distances, std::span<const int32_t> labels, size_t self,
                int neighbours) {
  std::vector<float> others;
  for (size_t i = 0; i < distances.size(); ++i) {
    if (i != self) others.push_back(distances[i]);
  }
  std::nth_element(others.begin(), others.begin() + neighbours - 1, others.end());
  const float last = others[neighbours - 1];
  int nearer = 0, nearer_alike = 0, level = 0, level_alike = 0;
  for (size_t i = 0; i < distances.size(); ++i) {
    if (i == self || distances[i] > last) continue;
    const bool alike = labels[i] == labels[self];
    (distances[i] < last ? nearer : level) += 1;
    (distances[i] < last ? nearer_alike : level_alike) += alike;
  }
  const double part = static_cast<double>(neighbours - nearer) / level;
  return (nearer_alike + part * level_alike) / neighbours;
}

// `distances` [n][n], squared.
double Purity(const Tensor& distances, std::span<const int32_t> labels, int neighbours) {
  const Tensor plain = distances.contiguous();
  const std::span<const float> all(plain.data_ptr<float>(), static_cast<size_t>(plain.numel()));
  double sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    sum += PurityOf(all.subspan(i * labels.size(), labels.size()), labels, i, neighbours);
  }
  return sum / static_cast<double>(labels.size());
}

// How often another state has the label of one, whatever they look like.
double Chance(std::span<const int32_t> labels, int* different) {
  std::map<int32_t, double> counts;
  for (const int32_t label : labels) ++counts[label];
  *different = static_cast<int>(counts.size());
  const auto all = static_cast<double>(labels.size());
  double chance = 0;
  for (const auto& [label, count] : counts) chance += count / all * (count - 1) / (all - 1);
  return chance;
}

}  // namespace

absl::StatusOr<StateStatistics> StatisticsOf(const ChosenStates& states,
                                             const StageProgress& progress) {
  if (states.size() < 2) {
    return absl::InvalidArgumentError(StrCat("states: expected at least 2, found ", states.size()));
  }
  const torch::NoGradGuard no_gradients;
  const state::Shape& shape = states.shape;
  const auto count = static_cast<int64_t>(states.size());
  StateStatistics statistics;
  statistics.shape = shape;
  statistics.states = count;
  statistics.neighbours = static_cast<int>(std::min<int64_t>(kNeighbours, count - 1));
  statistics.chance = Chance(states.labels, &statistics.labels);
  const Tensor all = torch::from_blob(
      const_cast<float*>(states.wkv.data()),
      {count, shape.layers * shape.heads, shape.head_size, shape.head_size}, torch::kFloat);
  Tensor together = torch::zeros({count, count});
  for (int layer = 0; layer < shape.layers; ++layer) {
    for (int head = 0; head < shape.heads; ++head) {
      const int number = layer * shape.heads + head;
      if (progress) progress("heads", number, all.size(1));
      HeadStatistics& out = statistics.heads.emplace_back();
      DescribeEach(states, layer, head, &out);
      const Tensor matrices = all.select(1, number).to(torch::kDouble);
      const Tensor projected = matrices - matrices.mean(1, /*keepdim=*/true);
      DescribeTogether(matrices, projected, &out);
      // By differences, not by products: states that are the same are at distance 0 exactly.
      constexpr int64_t kByDifferences = 2;
      const Tensor points = projected.flatten(1).to(torch::kFloat);
      const Tensor distances = torch::cdist(points, points, 2.0, kByDifferences).square();
      out.purity = Purity(distances, states.labels, statistics.neighbours);
      if (out.rms > 0) together += distances / (out.rms * out.rms);
    }
  }
  statistics.purity = Purity(together, states.labels, statistics.neighbours);
  if (progress) progress("heads", all.size(1), all.size(1));
  return statistics;
}

}  // namespace dreamstate::evaluation
