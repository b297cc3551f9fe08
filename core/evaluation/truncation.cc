#include "core/evaluation/truncation.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace dreamstate::evaluation {
namespace {

size_t LayerElements(const state::Shape& shape) {
  return static_cast<size_t>(shape.wkv_elements() / shape.layers);
}

// `change` is given each row, [N key], to overwrite.
template <typename Change>
state::State WithRows(const state::State& state, const Change& change) {
  state::State made = state;
  const auto size = static_cast<size_t>(state.shape.head_size);
  for (size_t begin = 0; begin < made.wkv.size(); begin += size) {
    change(std::span(made.wkv).subspan(begin, size));
  }
  return made;
}

// To the nearest multiple of the row's largest absolute value over `levels`.
void Round(std::span<float> row, int levels) {
  float largest = 0;
  for (const float value : row) largest = std::max(largest, std::fabs(value));
  const float step = largest / static_cast<float>(levels);
  if (step == 0) return;
  for (float& value : row) value = std::round(value / step) * step;
}

void RoundByMean(std::span<float> row) {
  constexpr double kThreshold = 0.7;  // of the mean: the paper's, for normal values
  double sum = 0;
  for (const float value : row) sum += std::fabs(value);
  const double threshold = kThreshold * sum / static_cast<double>(row.size());
  double kept = 0;
  int count = 0;
  for (const float value : row) {
    if (std::fabs(value) <= threshold) continue;
    kept += std::fabs(value);
    ++count;
  }
  const auto size = static_cast<float>(count == 0 ? 0 : kept / count);
  for (float& value : row) {
    value = std::fabs(value) <= threshold ? 0.0f : std::copysign(size, value);
  }
}

}  // namespace

std::vector<float> KeyDirections(const state::State& state) {
  const torch::NoGradGuard no_gradients;
  const state::Shape& shape = state.shape;
  const torch::Tensor matrices =
      torch::from_blob(const_cast<float*>(state.wkv.data()),
                       {shape.layers * shape.heads, shape.head_size, shape.head_size},
                       torch::kFloat)
          .to(torch::kDouble);
  // Eigenvectors of S^T S are its columns, the weakest first.
  const torch::Tensor vectors =
      std::get<1>(torch::linalg_eigh(matrices.transpose(1, 2).matmul(matrices)));
  const torch::Tensor rows = vectors.transpose(1, 2).flip(1).to(torch::kFloat).contiguous();
  const float* const begin = rows.data_ptr<float>();
  return {begin, begin + rows.numel()};
}

state::State OfRank(const state::State& state, std::span<const float> directions, int rank) {
  // S V_r V_r^T, row by row.
  const auto n = static_cast<size_t>(state.shape.head_size);
  size_t row_number = 0;
  std::vector<double> sum(n);
  return WithRows(state, [&](std::span<float> row) {
    const std::span<const float> head = directions.subspan(row_number++ / n * n * n, n * n);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int r = 0; r < rank; ++r) {
      const std::span<const float> direction = head.subspan(static_cast<size_t>(r) * n, n);
      double along = 0;
      for (size_t i = 0; i < n; ++i) along += double{row[i]} * direction[i];
      for (size_t i = 0; i < n; ++i) sum[i] += along * direction[i];
    }
    for (size_t i = 0; i < n; ++i) row[i] = static_cast<float>(sum[i]);
  });
}

state::State OnlyLayer(const state::State& state, int layer) {
  state::State made = state;
  const size_t begin = static_cast<size_t>(layer) * LayerElements(state.shape);
  for (size_t i = 0; i < made.wkv.size(); ++i) {
    if (i < begin || i >= begin + LayerElements(state.shape)) made.wkv[i] = 0;
  }
  return made;
}

state::State WithoutLayer(const state::State& state, int layer) {
  state::State made = state;
  const size_t size = LayerElements(state.shape);
  std::fill_n(made.wkv.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(layer) * size), size,
              0.0f);
  return made;
}

state::State Scaled(const state::State& state, float factor) {
  state::State made = state;
  for (float& value : made.wkv) value *= factor;
  return made;
}

state::State FourBitRows(const state::State& state) {
  return WithRows(state, [](std::span<float> row) { Round(row, 7); });
}

state::State TernaryRows(const state::State& state) {
  return WithRows(state, [](std::span<float> row) { Round(row, 1); });
}

state::State TernaryRowsByMean(const state::State& state) { return WithRows(state, RoundByMean); }

double RelativeError(const state::State& a, const state::State& b) {
  double distance = 0, size = 0;
  for (size_t i = 0; i < b.wkv.size(); ++i) {
    const double difference = double{a.wkv[i]} - b.wkv[i];
    distance += difference * difference;
    size += double{b.wkv[i]} * b.wkv[i];
  }
  if (size == 0) return distance == 0 ? 0 : 1;
  return std::sqrt(distance / size);
}

}  // namespace dreamstate::evaluation
