// Elementwise parts of the time mix, fused by what they read. exp, sigmoid and tanh are our own
// polynomials, the same for every position of a row (tails are masked, never done by other code):
// relative error below 2e-6 against double. Each row gives the same bits in any batch. Thread-safe
// for distinct outputs. No allocation.
#pragma once

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

// Steps 3 to 8 of a time mix (RWKV-7), after the matrix products. In and out are [rows][heads *
// head_size] unless said otherwise; vectors are [heads * head_size].
struct TimeMixGates {
  int heads;
  int head_size;  // a multiple of 16
  // Vectors of the layer.
  const float* w0;
  const float* a0;
  const float* v0;  // null in layer 0
  const float* k_k;
  const float* k_a;
  // Low-rank products: tanh(x_w w1) w2, (x_a a1) a2, (x_v v1) v2. w, a, v_mix are read; w and a are
  // overwritten.
  float* w;              // -> decay exp(c0 sigmoid(w0 + w)), c0 = -exp(-0.5)
  float* a;              // -> in-context learning rate sigmoid(a0 + a)
  const float* v_mix;    // null in layer 0
  const float* v_first;  // values of layer 0, null in layer 0
  float* k;              // -> k ⊙ (1 + (a - 1) ⊙ k_a)
  float* v;              // -> v + (v_first - v) ⊙ sigmoid(v0 + v_mix); untouched in layer 0
  float* kk;  // <- k (before the change) ⊙ k_k, each head divided by max(its 2-norm, 1e-12)
};
void TimeMixGateRows(const TimeMixGates& gates, int rows, ThreadPool& pool);

}  // namespace dreamstate::kernels
