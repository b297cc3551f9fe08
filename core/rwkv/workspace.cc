#include "core/rwkv/workspace.h"

#include <algorithm>

namespace dreamstate::rwkv {

Workspace::Workspace(const Weights& weights, int max_tokens, int max_sequences)
    : rows_of_logits(max_sequences) {
  const Config& config = weights.config;
  const auto make = [&](Buffer* buffer, int64_t rows, int64_t columns) {
    *buffer = kernels::MakeAligned<float>(rows * columns);
    bytes += rows * columns * sizeof(float);
  };
  for (Buffer* buffer : {&x, &z, &x_r, &x_w, &x_k, &x_v, &x_a, &x_g, &r, &w, &k, &v, &a, &g, &kk,
                         &v_mix, &v_first, &y}) {
    make(buffer, max_tokens, config.width);
  }
  make(&rank_w, max_tokens, config.rank_decay);
  make(&rank_a, max_tokens, config.rank_iclr);
  make(&rank_v, max_tokens, config.rank_value);
  make(&rank_g, max_tokens, config.rank_gate);
  make(&ffn, max_tokens, config.ffn_width);
  make(&hidden, std::max(max_tokens, max_sequences), config.width);
  make(&logits, max_sequences, config.vocab);

  // The largest groups of products that run as one call: the seven of a time mix, the four low-rank
  // ones, the two of a channel mix.
  const int rows = std::max(max_tokens, max_sequences);
  const auto scratch = [&](int inputs) { return kernels::GemmScratchBytes(rows, inputs); };
  const size_t time_mix = 7 * scratch(config.width);
  const size_t low_rank = scratch(config.rank_decay) + scratch(config.rank_iclr) +
                          scratch(std::max(config.rank_value, 1)) + scratch(config.rank_gate);
  gemm_scratch_bytes = std::max({time_mix, low_rank, scratch(config.ffn_width)});
  gemm_scratch = kernels::MakeAligned<std::byte>(gemm_scratch_bytes);
  bytes += gemm_scratch_bytes;

  tokens.reserve(max_sequences);
  carried.reserve(max_sequences);
  wkv.reserve(max_sequences);
  targets.reserve(max_sequences);
}

}  // namespace dreamstate::rwkv
