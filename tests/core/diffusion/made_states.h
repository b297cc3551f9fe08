// States of a small made-up backbone: structured, so that a codec has something to find.
#pragma once

#include <vector>

#include "core/base/draws.h"
#include "core/state/state.h"

namespace dreamstate::diffusion {

inline constexpr state::Shape kShape = {.layers = 2, .width = 16, .heads = 2, .head_size = 8};

struct MadeStates {
  std::vector<float> wkv, shift;
  int64_t count = 0;
};

// Each matrix is a fixed one and a few fixed directions with random weights.
inline MadeStates MakeStates(int64_t count, uint64_t seed) {
  MadeStates made = {.count = count};
  const auto n = static_cast<size_t>(kShape.head_size);
  Draws basis(99, 1, 0);
  std::vector<float> directions(3 * static_cast<size_t>(kShape.wkv_elements()));
  for (float& value : directions) value = static_cast<float>(basis.Uniform() - 0.5);
  Draws draws(seed, 2, 0);
  for (int64_t state = 0; state < count; ++state) {
    for (int64_t matrix = 0; matrix < int64_t{kShape.layers} * kShape.heads; ++matrix) {
      const double a = draws.Uniform() * 4, b = draws.Uniform() - 0.5;
      for (size_t i = 0; i < n * n; ++i) {
        const size_t at = static_cast<size_t>(matrix) * n * n + i;
        const auto part = [&](size_t which) {
          return directions[which * static_cast<size_t>(kShape.wkv_elements()) + at];
        };
        made.wkv.push_back(static_cast<float>(part(0) + a * part(1) + b * part(2)));
      }
    }
    for (int64_t i = 0; i < kShape.shift_elements(); ++i) {
      made.shift.push_back(static_cast<float>(i % 7));
    }
  }
  return made;
}

}  // namespace dreamstate::diffusion
