// The elementwise parts of a block as differentiable torch operators: kernels/time_mix_gradient for
// fp32 parameters on the CPU, plain torch operations for everything else (spec sections 1.3, 1.4).
// Internal to core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::training {

struct NormShiftMixResult {
  std::vector<torch::Tensor> mixed;  // n of [B][T][D], in the products' type
  torch::Tensor last;                // [B][D]: what the next token's shift reads
  // x again: read where it goes around the block, its gradient costs no pass of its own.
  torch::Tensor residual;
};
// Layer norm of x [B][T][D], then n mixtures of each token and the one before it; `before` [B][D]
// stands before the first ones, undefined = zero. mix [n][D].
NormShiftMixResult NormShiftMix(const torch::Tensor& x, const torch::Tensor& weight,
                                const torch::Tensor& bias, const torch::Tensor& before,
                                const torch::Tensor& mix, torch::ScalarType products,
                                kernels::ThreadPool& pool);

// What WKV-7 reads, all [B][T][H][N] in the parameters' type.
struct Wkv7Inputs {
  torch::Tensor r, w_raw, k, v, a, b;
  // r, k and v again, for Wkv7Finish: their gradients are then added up in Wkv7Prepare's pass.
  torch::Tensor finish_r, finish_k, finish_v;
};
struct Wkv7Products {
  torch::Tensor r, k, v, w_low, a_low;  // [B][T][D]
  torch::Tensor v_low, v_first;         // undefined in layer 0
};
struct Wkv7Vectors {
  torch::Tensor w0, a0, k_k, k_a;  // [D] up to sizes of one
  torch::Tensor v0;                // undefined in layer 0
};
Wkv7Inputs Wkv7Prepare(const Wkv7Products& products, const Wkv7Vectors& vectors, int64_t heads,
                       kernels::ThreadPool& pool);

// (GroupNorm(y) ⊙ weight + bias + bonus) ⊙ gate -> [B][T][D] in the gate's type; y [B][T][H][N],
// r_k [H][N].
torch::Tensor Wkv7Finish(const torch::Tensor& y, const Wkv7Inputs& inputs,
                         const torch::Tensor& gate, const torch::Tensor& r_k,
                         const torch::Tensor& weight, const torch::Tensor& bias,
                         kernels::ThreadPool& pool);

// max(x, 0)².
torch::Tensor SquaredRelu(const torch::Tensor& x, kernels::ThreadPool& pool);

}  // namespace dreamstate::training
