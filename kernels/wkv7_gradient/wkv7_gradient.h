// WKV-7 for training: the recurrence of one layer with all its gradients, exact up to rounding
// (spec section 3.6). With decay w_t = exp(c0 sigmoid(w_raw_t)), c0 = -exp(-1/2):
//   S_t = S_{t-1} (diag(w_t) + a_t b_t^T) + v_t k_t^T,   y_t = S_t r_t
// where a = -k̂ and b = k̂ ⊙ (in-context learning rate). For inference see kernels/wkv7, which keeps
// nothing.
// Every array is fp32 and contiguous: r, w_raw, k, v, a, b, y and their gradients [B][T][H][N],
// states [B][H][N value][N key]. The result does not depend on the number of threads. Thread-safe:
// writes only what is named. Allocates scratch once a call, a few states a thread.
#pragma once

#include <cstddef>

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

struct Wkv7TrainingShape {
  int batch;      // B >= 1
  int tokens;     // T >= 1
  int heads;      // H >= 1
  int head_size;  // N, a multiple of 16, at most kWkv7TrainingMaxHeadSize
};
inline constexpr int kWkv7TrainingMaxHeadSize = 128;

struct Wkv7TrainingInputs {
  const float* r;
  const float* w_raw;
  const float* k;
  const float* v;
  const float* a;
  const float* b;
  const float* initial_state;  // null = zero
};

// What the backward pass needs of the forward pass beside its inputs.
struct Wkv7Kept {
  float* states;  // [B][H][ceil(T / kWkv7CheckpointTokens)][N][N]: the state before each segment
  float* sa;      // [B][T][H][N]: S_{t-1} a_t
};
// Tokens between two kept states: recomputed rows of so many states stay in the first-level cache.
inline constexpr int kWkv7CheckpointTokens = 16;
// Floats of Wkv7Kept::states.
size_t Wkv7KeptStateFloats(const Wkv7TrainingShape& shape);

struct Wkv7TrainingGradients {
  float* r;
  float* w_raw;
  float* k;
  float* v;
  float* a;
  float* b;
  float* initial_state;  // null = not wanted
};

// `final_state` may be null, or the memory of inputs.initial_state. `kept` null: no backward pass
// will follow.
void Wkv7TrainingForward(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs, float* y,
                         float* final_state, const Wkv7Kept* kept, ThreadPool& pool);

// `d_final_state` null = zero. Overwrites `gradients`.
void Wkv7TrainingBackward(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                          const Wkv7Kept& kept, const float* dy, const float* d_final_state,
                          const Wkv7TrainingGradients& gradients, ThreadPool& pool);

}  // namespace dreamstate::kernels
