// The elementwise parts of an RWKV-7 block for training (spec sections 1.3, 1.4), forward and
// backward, each in one pass over its arrays instead of a pass an operation:
//   NormShiftMix   layer norm, token shift, n mixtures            before the matrix products
//   Wkv7Prepare    what the products give -> inputs of WKV-7      between products and WKV-7
//   Wkv7Finish     WKV-7's result -> what the output product reads
//   SquaredRelu    the hidden layer of the channel mixture
//
// B sequences of T tokens, D width, H heads, N head size; rows = B T. Arrays are row-major and
// dense; D and N are multiples of 16. What matrix products read or write is fp32 or bf16
// (`Element`); everything else is fp32. Gradients of parameters ([D] each) are written, not added
// to; they are sums over blocks of rows that depend on the shape alone, so results do not depend on
// the number of threads. The same arithmetic on every instruction set up to rounding.
// Thread-safe for different pools. Backward passes allocate a few kilobytes a block of rows.
#pragma once

#include <cstdint>

#include "kernels/runtime/bf16.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

// z = LayerNorm(x), d_t = z_{t-1} - z_t (z_{-1} = before), mixed_i = z + d ⊙ mix_i.
struct NormShiftMixShape {
  int batch = 0;   // B
  int tokens = 0;  // T
  int width = 0;   // D
  int mixes = 0;   // n: 1 to kMostMixes
  float epsilon = 1e-5f;
};
inline constexpr int kMostMixes = 6;

struct NormShiftMixInputs {
  const float* x;       // [B][T][D]
  const float* weight;  // [D]
  const float* bias;    // [D]
  const float* before;  // [B][D]; null = zero
  const float* mix;     // [n][D]
};

// mixed: n arrays [B][T][D]; last [B][D]: z of each sequence's last token; moments [B][T][2]: mean
// and inverse deviation, for the backward pass.
template <typename Element>
void NormShiftMixForward(const NormShiftMixShape& shape, const NormShiftMixInputs& inputs,
                         Element* const* mixed, float* last, float* moments, ThreadPool& pool);

struct NormShiftMixGradients {
  float* x;       // [B][T][D]
  float* weight;  // [D]
  float* bias;    // [D]
  float* before;  // [B][D]; null = not wanted
  float* mix;     // [n][D]
};

// d_mixed: n arrays [B][T][D]; d_last [B][D], null = zero. d_residual [B][T][D], null = zero: of x
// where it goes around the block, added to the gradient of x.
template <typename Element>
void NormShiftMixBackward(const NormShiftMixShape& shape, const NormShiftMixInputs& inputs,
                          const float* moments, const Element* const* d_mixed, const float* d_last,
                          const float* d_residual, const NormShiftMixGradients& gradients,
                          ThreadPool& pool);

struct HeadsShape {
  int64_t rows = 0;   // B T
  int heads = 0;      // H
  int head_size = 0;  // N
};

// rate = sigmoid(a0 + a_low), w = w0 + w_low, v = v0 + (v_first - v0) ⊙ sigmoid(v_bias + v_low),
// kk = normalised per head (k ⊙ k_k), k' = k ⊙ (1 + (rate - 1) ⊙ k_a), a = -kk, b = kk ⊙ rate.
template <typename Element>
struct Wkv7PrepareInputs {
  // Of the products, [rows][D].
  const Element* r;
  const Element* k;
  const Element* v;
  const Element* w_low;
  const Element* a_low;
  const Element* v_low;  // null in layer 0, and so are the two below
  const float* v_first;  // [rows][D]
  const float* v0;       // [D]: the bias of the value's share
  const float* w0;       // [D]
  const float* a0;       // [D]
  const float* k_k;      // [D]
  const float* k_a;      // [D]
};

struct Wkv7Prepared {
  float *r, *w, *k, *v, *a, *b;  // [rows][D]
};

template <typename Element>
void Wkv7PrepareForward(const HeadsShape& shape, const Wkv7PrepareInputs<Element>& inputs,
                        const Wkv7Prepared& out, ThreadPool& pool);

struct Wkv7PreparedGradients {
  const float *r, *w, *k, *v, *a, *b;  // [rows][D]
  // Of r, k and v where Wkv7Finish reads them, [rows][D], added to those above; null = zero.
  const float *finish_r, *finish_k, *finish_v;
};
template <typename Element>
struct Wkv7PrepareGradients {
  Element *r, *k, *v, *w_low, *a_low, *v_low;  // [rows][D]
  float* v_first;                              // [rows][D]
  float *v0, *w0, *a0, *k_k, *k_a;             // [D]
};

template <typename Element>
void Wkv7PrepareBackward(const HeadsShape& shape, const Wkv7PrepareInputs<Element>& inputs,
                         const Wkv7PreparedGradients& d_out,
                         const Wkv7PrepareGradients<Element>& gradients, ThreadPool& pool);

// out = (GroupNorm per head (y) ⊙ weight + bias + (sum over the head of r ⊙ k ⊙ r_k) v) ⊙ gate.
template <typename Element>
struct Wkv7FinishInputs {
  const float* y;  // [rows][D], and so are the next three
  const float* r;
  const float* k;
  const float* v;
  const Element* gate;  // [rows][D]
  const float* r_k;     // [D]
  const float* weight;  // [D]
  const float* bias;    // [D]
};
inline constexpr float kGroupNormEpsilon = 64e-5f;

template <typename Element>
void Wkv7FinishForward(const HeadsShape& shape, const Wkv7FinishInputs<Element>& inputs,
                       Element* out, ThreadPool& pool);

template <typename Element>
struct Wkv7FinishGradients {
  float *y, *r, *k, *v;        // [rows][D]
  Element* gate;               // [rows][D]
  float *r_k, *weight, *bias;  // [D]
};

template <typename Element>
void Wkv7FinishBackward(const HeadsShape& shape, const Wkv7FinishInputs<Element>& inputs,
                        const Element* d_out, const Wkv7FinishGradients<Element>& gradients,
                        ThreadPool& pool);

// out = max(x, 0)². `count` elements, a multiple of 16. In the backward pass d_x may be the memory
// of d_out.
template <typename Element>
void SquaredReluForward(int64_t count, const Element* x, Element* out, ThreadPool& pool);
template <typename Element>
void SquaredReluBackward(int64_t count, const Element* x, const Element* d_out, Element* d_x,
                         ThreadPool& pool);

}  // namespace dreamstate::kernels
