#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

#include "kernels/wkv7_gradient/wkv7_gradient_cuda.h"

namespace dreamstate::kernels {
namespace {

constexpr float kDecayScale = -0.606530659712633424f;

__device__ float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Vectors that all threads of a block read whole.
template <int N>
struct __align__(16) Row {
  float value[N];
};

// A block is one head of one sequence, and thread i owns row i (a value) of the state.
template <int N>
__global__ void __launch_bounds__(N)
    ForwardKernel(int tokens, int heads, Wkv7TrainingInputs in, float* y, float* final_state,
                  float* kept_states, float* kept_sa) {
  const int i = threadIdx.x;
  const int64_t unit = blockIdx.x;
  const int64_t stride = static_cast<int64_t>(heads) * N;
  const int64_t segments = (tokens + kWkv7CheckpointTokens - 1) / kWkv7CheckpointTokens;
  int64_t at = unit / heads * tokens * stride + unit % heads * N + i;
  __shared__ Row<N> r, w, k, a, b;
  float state[N];
#pragma unroll
  for (int j = 0; j < N; ++j) {
    state[j] = in.initial_state == nullptr ? 0.0f : in.initial_state[(unit * N + i) * N + j];
  }
  for (int t = 0; t < tokens; ++t, at += stride) {
    __syncthreads();
    r.value[i] = in.r[at];
    w.value[i] = expf(kDecayScale * Sigmoid(in.w_raw[at]));
    k.value[i] = in.k[at];
    a.value[i] = in.a[at];
    b.value[i] = in.b[at];
    const float v = in.v[at];
    __syncthreads();
    float sa = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) sa += state[j] * a.value[j];
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      state[j] = state[j] * w.value[j] + sa * b.value[j] + v * k.value[j];
      sum += state[j] * r.value[j];
    }
    y[at] = sum;
    if (kept_sa == nullptr) continue;
    kept_sa[at] = sa;
    if ((t + 1) % kWkv7CheckpointTokens == 0 || t + 1 == tokens) {
      float* kept = kept_states + (unit * segments + t / kWkv7CheckpointTokens) * N * N;
#pragma unroll
      for (int j = 0; j < N; ++j) kept[j * N + i] = state[j];
    }
  }
  if (final_state == nullptr) return;
#pragma unroll
  for (int j = 0; j < N; ++j) final_state[(unit * N + i) * N + j] = state[j];
}

// Thread i owns key i of the state and of its gradient, and value i of a second copy of the
// gradient: every sum then runs within a thread.
template <int N>
__global__ void __launch_bounds__(N)
    BackwardKernel(int tokens, int heads, Wkv7TrainingInputs in, const float* kept_states,
                   const float* kept_sa, const float* dy, const float* d_final_state,
                   Wkv7TrainingGradients out) {
  const int i = threadIdx.x;
  const int64_t unit = blockIdx.x;
  const int64_t stride = static_cast<int64_t>(heads) * N;
  const int64_t segments = (tokens + kWkv7CheckpointTokens - 1) / kWkv7CheckpointTokens;
  int64_t at = (unit / heads * tokens + tokens - 1) * stride + unit % heads * N + i;
  __shared__ Row<N> r, w, k, v, a, b, sa, dy_row, dsa;
  float state[N];       // [value j] of key i
  float gradient[N];    // [key j] of value i
  float gradient_t[N];  // [value j] of key i
#pragma unroll
  for (int j = 0; j < N; ++j) {
    state[j] = 0.0f;
    gradient[j] = d_final_state == nullptr ? 0.0f : d_final_state[(unit * N + i) * N + j];
    gradient_t[j] = d_final_state == nullptr ? 0.0f : d_final_state[(unit * N + j) * N + i];
  }
  for (int t = tokens - 1; t >= 0; --t, at -= stride) {
    __syncthreads();
    const float sigmoid = Sigmoid(in.w_raw[at]);
    const float w_i = expf(kDecayScale * sigmoid);
    const float r_i = in.r[at];
    const float k_i = in.k[at];
    const float a_i = in.a[at];
    const float b_i = in.b[at];
    const float dy_i = dy[at];
    r.value[i] = r_i;
    w.value[i] = w_i;
    k.value[i] = k_i;
    v.value[i] = in.v[at];
    a.value[i] = a_i;
    b.value[i] = b_i;
    sa.value[i] = kept_sa[at];
    dy_row.value[i] = dy_i;
    __syncthreads();
    if ((t + 1) % kWkv7CheckpointTokens == 0 || t + 1 == tokens) {
      const float* kept = kept_states + ((unit * segments + t / kWkv7CheckpointTokens) * N + i) * N;
#pragma unroll
      for (int j = 0; j < N; ++j) state[j] = kept[j];
    }
    float dr = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) dr += state[j] * dy_row.value[j];
    out.r[at] = dr;
    const float over_w = 1.0f / w_i;
    float dw = 0.0f, dk = 0.0f, db = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      state[j] = (state[j] - k_i * v.value[j] - b_i * sa.value[j]) * over_w;
      gradient_t[j] += r_i * dy_row.value[j];
      dw += gradient_t[j] * state[j];
      dk += gradient_t[j] * v.value[j];
      db += gradient_t[j] * sa.value[j];
    }
    out.w_raw[at] = dw * w_i * kDecayScale * sigmoid * (1.0f - sigmoid);
    out.k[at] = dk;
    out.b[at] = db;
    float dv = 0.0f, dsa_i = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      gradient[j] += dy_i * r.value[j];
      dv += gradient[j] * k.value[j];
      dsa_i += gradient[j] * b.value[j];
    }
    out.v[at] = dv;
    dsa.value[i] = dsa_i;
    __syncthreads();
    float da = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      da += state[j] * dsa.value[j];
      gradient[j] = gradient[j] * w.value[j] + dsa_i * a.value[j];
      gradient_t[j] = gradient_t[j] * w_i + a_i * dsa.value[j];
    }
    out.a[at] = da;
  }
  if (out.initial_state == nullptr) return;
#pragma unroll
  for (int j = 0; j < N; ++j) out.initial_state[(unit * N + i) * N + j] = gradient[j];
}

// Calls launch(std::integral_constant<int, N>) for the head size N.
template <typename Launch>
int ForHeadSize(int head_size, const Launch& launch) {
  switch (head_size) {
    case 16:
      launch(std::integral_constant<int, 16>());
      break;
    case 32:
      launch(std::integral_constant<int, 32>());
      break;
    case 64:
      launch(std::integral_constant<int, 64>());
      break;
    default:
      return kWkv7CudaHeadSize;
  }
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int Wkv7TrainingForwardCuda(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                            float* y, float* final_state, const Wkv7Kept* kept, void* stream) {
  return ForHeadSize(shape.head_size, [&](auto size) {
    constexpr int kN = decltype(size)::value;
    ForwardKernel<kN><<<shape.batch * shape.heads, kN, 0, static_cast<cudaStream_t>(stream)>>>(
        shape.tokens, shape.heads, inputs, y, final_state, kept == nullptr ? nullptr : kept->states,
        kept == nullptr ? nullptr : kept->sa);
  });
}

int Wkv7TrainingBackwardCuda(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                             const Wkv7Kept& kept, const float* dy, const float* d_final_state,
                             const Wkv7TrainingGradients& gradients, void* stream) {
  return ForHeadSize(shape.head_size, [&](auto size) {
    constexpr int kN = decltype(size)::value;
    BackwardKernel<kN><<<shape.batch * shape.heads, kN, 0, static_cast<cudaStream_t>(stream)>>>(
        shape.tokens, shape.heads, inputs, kept.states, kept.sa, dy, d_final_state, gradients);
  });
}

}  // namespace dreamstate::kernels
