// WKV-7 for a vector type V: lanes lie over values, which do not depend on each other, so a block
// of values runs through all tokens while its part of the state stays in the first-level cache.
#pragma once

#include "kernels/wkv7/wkv7_isa.h"

namespace dreamstate::kernels {

// Updates the block with token t and, when there is a next one, sums its sa in the same pass: the
// same additions in the same order as a pass of its own would do, so a split between the two tokens
// changes nothing.
template <class V, int kVectors, bool kHasNext>
inline void Wkv7Token(const Wkv7Head& head, float* state, int64_t at, int first_value,
                      const float* b, const float* next_minus_kk,
                      typename V::Type (&sa)[kVectors]) {
  using Type = typename V::Type;
  Type v[kVectors];
  Type y[kVectors];
  Type next_sa[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    v[i] = V::Load(head.v + at + first_value + i * V::kLanes);
    y[i] = V::Zero();
    next_sa[i] = V::Zero();
  }
  for (int j = 0; j < head.head_size; ++j) {
    float* row = state + static_cast<int64_t>(j) * head.head_size;
    const Type w_j = V::Set(head.w[at + j]);
    const Type b_j = V::Set(b[j]);
    const Type k_j = V::Set(head.k[at + j]);
    const Type r_j = V::Set(head.r[at + j]);
    const Type next_j = kHasNext ? V::Set(next_minus_kk[j]) : V::Zero();
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      Type s = V::Mul(V::Load(row + i * V::kLanes), w_j);
      s = V::Fma(sa[i], b_j, s);
      s = V::Fma(v[i], k_j, s);
      V::Store(row + i * V::kLanes, s);
      y[i] = V::Fma(s, r_j, y[i]);
      if (kHasNext) next_sa[i] = V::Fma(s, next_j, next_sa[i]);
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    V::Store(head.y + at + first_value + i * V::kLanes, y[i]);
    sa[i] = next_sa[i];
  }
}

template <class V, int kVectors>
inline void Wkv7Values(const Wkv7Head& head, int first_value) {
  using Type = typename V::Type;
  const int n = head.head_size;
  float* state = head.state + first_value;
  alignas(64) float minus_kk[kWkv7MaxHeadSize];
  alignas(64) float b[kWkv7MaxHeadSize];
  const auto negate_kk = [&head, &minus_kk, n](int64_t at) {
    for (int j = 0; j < n; j += V::kLanes)
      V::Store(minus_kk + j, V::Sub(V::Zero(), V::Load(head.kk + at + j)));
  };

  negate_kk(0);
  Type sa[kVectors];
  for (int i = 0; i < kVectors; ++i) sa[i] = V::Zero();
  for (int j = 0; j < n; ++j) {
    const float* row = state + static_cast<int64_t>(j) * n;
    const Type minus_kk_j = V::Set(minus_kk[j]);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i)
      sa[i] = V::Fma(V::Load(row + i * V::kLanes), minus_kk_j, sa[i]);
  }
  for (int t = 0; t < head.tokens; ++t) {
    const int64_t at = t * head.stride;
    for (int j = 0; j < n; j += V::kLanes) {
      V::Store(b + j, V::Mul(V::Load(head.kk + at + j), V::Load(head.a + at + j)));
    }
    if (t + 1 < head.tokens) {
      negate_kk(at + head.stride);
      Wkv7Token<V, kVectors, true>(head, state, at, first_value, b, minus_kk, sa);
    } else {
      Wkv7Token<V, kVectors, false>(head, state, at, first_value, b, nullptr, sa);
    }
  }
}

// kVectors at a time, then what is left of a head size that is no multiple of them.
template <class V, int kVectors>
inline void Wkv7HeadVector(const Wkv7Head& head) {
  int first = 0;
  for (; first + kVectors * V::kLanes <= head.head_size; first += kVectors * V::kLanes) {
    Wkv7Values<V, kVectors>(head, first);
  }
  for (; first < head.head_size; first += V::kLanes) Wkv7Values<V, 1>(head, first);
}

}  // namespace dreamstate::kernels
