// The elementwise parts of a time mix for a vector type V; a row never depends on the rows beside
// it.
#pragma once

#include "kernels/activation/activation_isa.h"
#include "kernels/activation/vector_math.h"

namespace dreamstate::kernels {

template <class V>
inline void TimeMixGatesVector(const TimeMixGates& g, int64_t begin, int64_t end) {
  using Type = typename V::Type;
  constexpr float kC0 = -0.6065306597126334f;  // -exp(-0.5)
  const int64_t width = static_cast<int64_t>(g.heads) * g.head_size;
  const Type one = V::Set(1.0f);
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t c = 0; c < width; c += g.head_size) {
      const int64_t head = row * width + c;
      Type squares = V::Zero();
      for (int i = 0; i < g.head_size; i += V::kLanes) {
        const Type kk = V::Mul(V::Load(g.k + head + i), V::Load(g.k_k + c + i));
        squares = V::Fma(kk, kk, squares);
      }
      // A head of zeros stays zero instead of becoming 0 / 0; NaN passes.
      const Type norm = V::Max(V::Set(1e-12f), V::Sqrt(V::Set(V::Sum(squares))));
      for (int i = 0; i < g.head_size; i += V::kLanes) {
        const int64_t e = head + i;
        const Type k = V::Load(g.k + e);
        V::Store(g.kk + e, V::Div(V::Mul(k, V::Load(g.k_k + c + i)), norm));
        const Type w = Sigmoid<V>(V::Add(V::Load(g.w0 + c + i), V::Load(g.w + e)));
        V::Store(g.w + e, Exp<V>(V::Mul(V::Set(kC0), w)));
        const Type a = Sigmoid<V>(V::Add(V::Load(g.a0 + c + i), V::Load(g.a + e)));
        V::Store(g.a + e, a);
        V::Store(g.k + e, V::Mul(k, V::Fma(V::Sub(a, one), V::Load(g.k_a + c + i), one)));
        if (g.v0 != nullptr) {
          const Type mix = Sigmoid<V>(V::Add(V::Load(g.v0 + c + i), V::Load(g.v_mix + e)));
          const Type v = V::Load(g.v + e);
          V::Store(g.v + e, V::Fma(V::Sub(V::Load(g.v_first + e), v), mix, v));
        }
      }
    }
  }
}

}  // namespace dreamstate::kernels
