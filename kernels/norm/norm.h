// Normalisations over rows. Means and variances are biased and summed in fp32 in one fixed order a
// row, so a row gives the same bits in any batch. Thread-safe for distinct outputs. No allocation.
#pragma once

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

// y[t] = (x[t] - mean) / sqrt(variance + epsilon) ⊙ weight + bias; x, y: [rows][width]; y may be x.
void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, int rows,
               int width, float* y, ThreadPool& pool);

// What follows WKV-7 in a time mix (RWKV-7, steps 11 to 13 of one layer), fused:
//   y_h = GroupNorm_h(y) ⊙ weight + bias + (sum_j r_j k_j r_k_j) v_h;   out = y ⊙ g
// All of [rows][heads * head_size] except weight, bias and r_k: [heads * head_size]. out may be y.
// head_size is a multiple of 16.
struct GroupNormBonusGate {
  int heads;
  int head_size;
  float epsilon;  // 64e-5 in RWKV-7
  const float* weight;
  const float* bias;
  const float* r_k;
  const float* y;
  const float* r;
  const float* k;  // after the in-context learning rate was applied (step 8)
  const float* v;  // after the value residual (step 4)
  const float* g;
};
void GroupNormBonusGateRows(const GroupNormBonusGate& inputs, int rows, float* out,
                            ThreadPool& pool);

}  // namespace dreamstate::kernels
