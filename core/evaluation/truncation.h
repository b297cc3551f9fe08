// What is left of a state when part of it is thrown away (design: science.md, table C3): low ranks,
// single layers, other sizes, few bits. Only a state's matrices change, its shift vectors stay.
// Quantisers for measurements, the simplest of their kind; none is a storage format. Pure
// functions; no torch type is shown.
#pragma once

#include <span>
#include <vector>

#include "core/state/state.h"

namespace dreamstate::evaluation {

// Of each head's matrix [N value][N key] the right singular vectors [L][H][N vector][N key], the
// strongest first.
std::vector<float> KeyDirections(const state::State& state);

// Each head's best matrix of that rank (truncated singular value decomposition); `directions` are
// the state's own KeyDirections, `rank` is in [0, N].
state::State OfRank(const state::State& state, std::span<const float> directions, int rank);

// The other layers' matrices are zero; or this layer's are.
state::State OnlyLayer(const state::State& state, int layer);
state::State WithoutLayer(const state::State& state, int layer);

// All matrices times `factor`.
state::State Scaled(const state::State& state, float factor);

// Rows are those of one value channel, over the keys; each has a scale of its own.
// The nearest of -7 to 7 sevenths of the row's largest absolute value: 4 bits.
state::State FourBitRows(const state::State& state);
// The nearest of minus the row's largest absolute value, 0 and plus that value.
state::State TernaryRows(const state::State& state);
// What is smaller than 0.7 times the row's mean absolute value becomes 0, the rest the mean of the
// rest's absolute values, with its sign (Li et al., Ternary Weight Networks, 2016, section 2.2).
state::State TernaryRowsByMean(const state::State& state);

// |a - b| / |b| of all matrices together; 0 where both are zero, 1 where only b is.
double RelativeError(const state::State& a, const state::State& b);

}  // namespace dreamstate::evaluation
