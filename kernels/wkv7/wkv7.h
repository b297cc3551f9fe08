// WKV-7 recurrence over many sequences (RWKV-7, equations 9 and 10 of one layer):
//   S_t = S_{t-1} (diag(w_t) - k̂_t (a_t ⊙ k̂_t)^T) + v_t k_t^T,   y_t = S_t r_t
// Not for training: kernels/wkv7_gradient has the forward pass that keeps what a gradient needs.
// The result of a sequence is the same to the bit whatever else is in the batch and however its
// tokens are split into calls. Thread-safe: writes only what the spans name. No allocation.
#pragma once

#include <span>

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

struct Wkv7Batch {
  int heads;
  int head_size;                  // N, a multiple of 16, at most 256
  std::span<const int> tokens;    // [B] tokens of each sequence, >= 1
  std::span<float* const> state;  // [B] -> [H][N key][N value], read and written in place
  // [sum(tokens)][H * N], packed sequence after sequence. w = decay in (0.545, 1); kk = k̂ of unit
  // length; a in (0, 1).
  const float* r;
  const float* w;
  const float* k;
  const float* v;
  const float* a;
  const float* kk;
};

// y: [sum(tokens)][H * N].
void Wkv7(const Wkv7Batch& batch, float* y, ThreadPool& pool);

}  // namespace dreamstate::kernels
