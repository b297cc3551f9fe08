// Every scratch buffer of a forward, allocated once for a token budget. T = max_tokens, B =
// max_sequences, D width, F ffn width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/rwkv/weights.h"
#include "kernels/runtime/aligned.h"

namespace dreamstate::rwkv {

struct Workspace {
  Workspace(const Weights& weights, int max_tokens, int max_sequences);

  using Buffer = kernels::AlignedBuffer<float>;
  Buffer x;                               // [T][D] residual stream
  Buffer z;                               // [T][D] normed input of a mix
  Buffer x_r, x_w, x_k, x_v, x_a, x_g;    // [T][D] shifted inputs
  Buffer r, w, k, v, a, g, kk, v_mix;     // [T][D]
  Buffer v_first;                         // [T][D] values of layer 0
  Buffer y;                               // [T][D]
  Buffer rank_w, rank_a, rank_v, rank_g;  // [T][R]
  Buffer ffn;                             // [T][F]
  Buffer hidden;                          // [max(T, B)][D] rows after ln_out
  Buffer logits;                          // [B][V], B rows at a time
  kernels::AlignedBuffer<std::byte> gemm_scratch;
  size_t gemm_scratch_bytes;

  // Filled anew by each Forward.
  std::vector<int> tokens;          // [B] of each sequence
  std::vector<float*> carried;      // [B] shift vectors of one layer
  std::vector<float*> wkv;          // [B] matrices of one layer
  std::vector<int32_t> targets;     // [B] of one chunk of rows
  std::vector<uint64_t> slot_seen;  // [slots] the last Forward that named a slot
  uint64_t forwards = 0;

  int rows_of_logits;  // B
  size_t bytes = 0;    // of all buffers
};

}  // namespace dreamstate::rwkv
