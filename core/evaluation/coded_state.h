// A state as a codec gives it back.
#pragma once

#include "core/diffusion/state_codec.h"
#include "core/state/state.h"

namespace dreamstate::evaluation {

// When only the first `blocks` of each head, of those that the codec has, are kept; with the
// codec's mean shift vectors.
state::State Coded(const diffusion::StateCodec& codec, const state::State& state, int blocks);

}  // namespace dreamstate::evaluation
