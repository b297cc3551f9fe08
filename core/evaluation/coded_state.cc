#include "core/evaluation/coded_state.h"

#include <algorithm>
#include <vector>

namespace dreamstate::evaluation {

state::State Coded(const diffusion::StateCodec& codec, const state::State& state, int blocks) {
  std::vector<float> code(static_cast<size_t>(codec.code_elements()));
  codec.Encode(state.wkv, code);
  const auto size = static_cast<size_t>(codec.token_size());
  for (size_t token = 0; token < static_cast<size_t>(codec.tokens()); ++token) {
    if (static_cast<int>(token) % codec.blocks() < blocks) continue;
    std::fill_n(code.begin() + static_cast<ptrdiff_t>(token * size), size, 0.0f);
  }
  return codec.DecodeState(code);
}

}  // namespace dreamstate::evaluation
