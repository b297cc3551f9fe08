// Arithmetic on states of one shape, as vectors, and the choice of matrices that it changes (spec
// section 4). Pure functions; sums are in double precision. States are finite; results overflow
// only where their exact values do.
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/state.h"

namespace dreamstate::state {

// Which matrices of a state are meant: [L][H].
using HeadMask = std::vector<bool>;

// The named heads in the named layers; an empty list = all. INVALID_ARGUMENT naming "layers[i]" or
// "heads[i]" for one that the shape has not, or that is named twice.
absl::StatusOr<HeadMask> MakeHeadMask(const Shape& shape, std::span<const int> layers,
                                      std::span<const int> heads);

struct WeightedState {
  const State* state = nullptr;  // null = the zero state
  double weight = 1;
};
// The sum of weight * state, matrices and shift vectors alike. At least one state is not null.
State WeightedSum(std::span<const WeightedState> states);

// (1 - fraction) * a + fraction * b.
State Linear(const State& a, const State& b, double fraction);

// Each matrix, and each shift vector, goes along the great circle from a's to b's direction, with
// the norm in between: averages are as large as what they are of. Where the two are opposite or one
// is zero there is no such circle, and it is the linear one.
State Spherical(const State& a, const State& b, double fraction);

// `changed` where the mask says so, `original` elsewhere. Shift vectors are `original`'s unless
// every matrix is in the mask.
State Masked(const State& original, State changed, const HeadMask& mask);

// Of the matrices.
double NormOf(const State& state);                  // Frobenius
double DistanceOf(const State& a, const State& b);  // norm of the difference

}  // namespace dreamstate::state
