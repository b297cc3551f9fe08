// WKV-7 as a differentiable torch operator (spec sections 3.6 to 3.9). Internal to core/training:
// shows torch types.
#pragma once

#include <torch/torch.h>

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::training {

struct Wkv7Result {
  torch::Tensor y;            // [B][T][H][N]
  torch::Tensor final_state;  // [B][H][N value][N key]
};

// r, w_raw (before the sigmoid of the decay), k, v, a = -k̂, b = k̂ ⊙ rate: [B][T][H][N];
// initial_state [B][H][N value][N key], or undefined for zero. Differentiable in all of them, and
// through both results. fp32 on the CPU runs kernels/wkv7_gradient on `pool`, fp32 on a GPU its
// CUDA twin where that was built; everything else runs Wkv7Chunked.
Wkv7Result Wkv7(const torch::Tensor& r, const torch::Tensor& w_raw, const torch::Tensor& k,
                const torch::Tensor& v, const torch::Tensor& a, const torch::Tensor& b,
                const torch::Tensor& initial_state, kernels::ThreadPool& pool);

// The same by matrix products over chunks of 16 tokens in plain torch operations, on any device and
// in any precision of at least fp32.
Wkv7Result Wkv7Chunked(const torch::Tensor& r, const torch::Tensor& w_raw, const torch::Tensor& k,
                       const torch::Tensor& v, const torch::Tensor& a, const torch::Tensor& b,
                       const torch::Tensor& initial_state);

}  // namespace dreamstate::training
