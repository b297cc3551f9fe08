// WKV-7 by plain loops, in float or double: what fast kernels and the double-precision engine are
// tested against.
#pragma once

#include <cstdint>
#include <vector>

namespace dreamstate::kernels {

// One sequence of `tokens` tokens. state: [heads][N key][N value], read and written in place; r, w,
// k, v, a, kk, y: [tokens][heads * N]. Allocates.
template <typename T>
void Wkv7Reference(int heads, int head_size, int tokens, T* state, const T* r, const T* w,
                   const T* k, const T* v, const T* a, const T* kk, T* y) {
  const int n = head_size;
  std::vector<T> sa(n);
  for (int t = 0; t < tokens; ++t) {
    for (int h = 0; h < heads; ++h) {
      const int64_t at = (static_cast<int64_t>(t) * heads + h) * n;
      T* s = state + static_cast<int64_t>(h) * n * n;
      for (int i = 0; i < n; ++i) sa[i] = T(0);
      for (int j = 0; j < n; ++j) {
        for (int i = 0; i < n; ++i) sa[i] += s[j * n + i] * -kk[at + j];
      }
      for (int i = 0; i < n; ++i) y[at + i] = T(0);
      for (int j = 0; j < n; ++j) {
        const T b = kk[at + j] * a[at + j];
        for (int i = 0; i < n; ++i) {
          const T next = s[j * n + i] * w[at + j] + sa[i] * b + v[at + i] * k[at + j];
          s[j * n + i] = next;
          y[at + i] += next * r[at + j];
        }
      }
    }
  }
}

}  // namespace dreamstate::kernels
