// What a text is to a generator that it conditions: the frozen backbone's residual stream after
// each token, behind some of its layers (spec section 3.5, condition encoder). No torch here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rwkv/engine.h"

namespace dreamstate::diffusion {

// Of each text [tokens][taps * D], read behind the separator from the empty state; texts of at
// least one token. Uses and clears the engine's slots. Errors as Engine::Forward.
absl::StatusOr<std::vector<std::vector<float>>> TextActivations(
    rwkv::Engine& engine, std::span<const std::vector<int32_t>> texts, int32_t separator,
    std::span<const int> taps);

}  // namespace dreamstate::diffusion
