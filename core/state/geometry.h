// Numbers that describe a state, and how far two states lie apart, for each layer and head. All
// sums are in double precision and overflow for no finite state. Pure functions.
#pragma once

#include <span>
#include <vector>

#include "core/state/state.h"

namespace dreamstate::state {

// Of one head's matrix [N value][N key].
struct HeadGeometry {
  double rms = 0;            // root mean square of the values
  double spectral_norm = 0;  // the largest singular value
  // (Frobenius norm / spectral norm)^2, in [1, N]; 0 for the zero matrix.
  double stable_rank = 0;
};

// `matrix` is [n][n], row-major, finite. Exact to rounding: by the largest eigenvalue of its Gram
// matrix, about 3 n^3 multiplications.
HeadGeometry GeometryOf(std::span<const float> matrix, int n);

// 0 for no values.
double RootMeanSquare(std::span<const float> values);

// Between two vectors of the same length.
struct Difference {
  double cosine = 1;             // in [-1, 1]; 1 where both are zero, 0 where one is
  double relative_distance = 0;  // |a - b| / max(|a|, |b|), in [0, 2]; 0 where both are zero
};

Difference DifferenceOf(std::span<const float> a, std::span<const float> b);

// The parts of a state that the numbers are of.
std::span<const float> HeadOf(const State& state, int layer, int head);  // [N value][N key]
std::span<const float> ShiftOf(const State& state, int layer, int mix);  // [D]; mix as in shift

// Of two states of the same shape.
struct StateDifference {
  Difference total;                           // of all matrices together
  std::vector<Difference> heads;              // [L][H]
  std::vector<Difference> time_mix_shift;     // [L]
  std::vector<Difference> channel_mix_shift;  // [L]
};
StateDifference Compare(const State& a, const State& b);

}  // namespace dreamstate::state
