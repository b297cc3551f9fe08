// The elementwise parts of a time mix by plain loops, in float or double.
#pragma once

#include <cmath>
#include <cstdint>

namespace dreamstate::kernels {

template <typename T>
T SigmoidReference(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

// Arguments as the fields of TimeMixGates in activation.h; v0, v_mix and v_first are null in layer
// 0.
template <typename T>
void TimeMixGatesReference(int heads, int head_size, const T* w0, const T* a0, const T* v0,
                           const T* k_k, const T* k_a, T* w, T* a, const T* v_mix, const T* v_first,
                           T* k, T* v, T* kk, int rows) {
  const T c0 = T(-0.6065306597126334);  // -exp(-0.5)
  const int width = heads * head_size;
  for (int t = 0; t < rows; ++t) {
    for (int h = 0; h < heads; ++h) {
      const int c = h * head_size;
      const int64_t at = static_cast<int64_t>(t) * width + c;
      T squares = T(0);
      for (int i = 0; i < head_size; ++i) {
        kk[at + i] = k[at + i] * k_k[c + i];
        squares += kk[at + i] * kk[at + i];
      }
      T norm = std::sqrt(squares);
      if (norm < T(1e-12)) norm = T(1e-12);
      for (int i = 0; i < head_size; ++i) {
        const int64_t e = at + i;
        kk[e] /= norm;
        w[e] = std::exp(c0 * SigmoidReference(w0[c + i] + w[e]));
        a[e] = SigmoidReference(a0[c + i] + a[e]);
        k[e] = k[e] * (T(1) + (a[e] - T(1)) * k_a[c + i]);
        if (v0 != nullptr) v[e] += (v_first[e] - v[e]) * SigmoidReference(v0[c + i] + v_mix[e]);
      }
    }
  }
}

}  // namespace dreamstate::kernels
