#include "kernels/wkv7/wkv7_isa.h"

namespace dreamstate::kernels {

void Wkv7HeadOfReference(const Wkv7Head& head) {
  const int n = head.head_size;
  float sa[kWkv7MaxHeadSize];
  for (int t = 0; t < head.tokens; ++t) {
    const int64_t at = t * head.stride;
    const float* v = head.v + at;
    float* y = head.y + at;
    for (int i = 0; i < n; ++i) sa[i] = 0.0f;
    for (int j = 0; j < n; ++j) {
      const float* s = head.state + static_cast<int64_t>(j) * n;
      const float minus_kk = -head.kk[at + j];
      for (int i = 0; i < n; ++i) sa[i] += s[i] * minus_kk;
    }
    for (int i = 0; i < n; ++i) y[i] = 0.0f;
    for (int j = 0; j < n; ++j) {
      float* s = head.state + static_cast<int64_t>(j) * n;
      const float w = head.w[at + j];
      const float b = head.kk[at + j] * head.a[at + j];
      const float k = head.k[at + j];
      const float r = head.r[at + j];
      for (int i = 0; i < n; ++i) {
        s[i] = s[i] * w + sa[i] * b + v[i] * k;
        y[i] += s[i] * r;
      }
    }
  }
}

}  // namespace dreamstate::kernels
