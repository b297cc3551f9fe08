// Normalisations by plain loops, in float or double. Layouts as in norm.h.
#pragma once

#include <cmath>
#include <cstdint>

namespace dreamstate::kernels {

template <typename T>
void LayerNormReference(const T* x, const T* weight, const T* bias, T epsilon, int rows, int width,
                        T* y) {
  for (int t = 0; t < rows; ++t) {
    const T* in = x + static_cast<int64_t>(t) * width;
    T* out = y + static_cast<int64_t>(t) * width;
    T mean = T(0);
    for (int i = 0; i < width; ++i) mean += in[i];
    mean /= T(width);
    T variance = T(0);
    for (int i = 0; i < width; ++i) variance += (in[i] - mean) * (in[i] - mean);
    variance /= T(width);
    const T scale = T(1) / std::sqrt(variance + epsilon);
    for (int i = 0; i < width; ++i) out[i] = (in[i] - mean) * scale * weight[i] + bias[i];
  }
}

template <typename T>
void GroupNormBonusGateReference(int heads, int head_size, T epsilon, const T* weight,
                                 const T* bias, const T* r_k, const T* y, const T* r, const T* k,
                                 const T* v, const T* g, int rows, T* out) {
  const int width = heads * head_size;
  for (int t = 0; t < rows; ++t) {
    for (int h = 0; h < heads; ++h) {
      const int c = h * head_size;
      const int64_t at = static_cast<int64_t>(t) * width + c;
      T bonus = T(0);
      for (int i = 0; i < head_size; ++i) bonus += r[at + i] * k[at + i] * r_k[c + i];
      T mean = T(0);
      for (int i = 0; i < head_size; ++i) mean += y[at + i];
      mean /= T(head_size);
      T variance = T(0);
      for (int i = 0; i < head_size; ++i) variance += (y[at + i] - mean) * (y[at + i] - mean);
      variance /= T(head_size);
      const T scale = T(1) / std::sqrt(variance + epsilon);
      for (int i = 0; i < head_size; ++i) {
        const T normed = (y[at + i] - mean) * scale * weight[c + i] + bias[c + i];
        out[at + i] = (normed + bonus * v[at + i]) * g[at + i];
      }
    }
  }
}

}  // namespace dreamstate::kernels
