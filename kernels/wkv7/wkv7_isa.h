// What each instruction set implements of WKV-7; wkv7.cc chooses. Includes nothing of the standard
// library that has code.
#pragma once

#include <cstdint>

namespace dreamstate::kernels {

// One head of one sequence. Rows of r, w, k, v, a, kk and y are `stride` floats apart.
struct Wkv7Head {
  int head_size;
  int tokens;
  int64_t stride;
  float* state;  // [N key][N value]
  const float* r;
  const float* w;
  const float* k;
  const float* v;
  const float* a;
  const float* kk;
  float* y;
};

inline constexpr int kWkv7MaxHeadSize = 256;

void Wkv7HeadOfReference(const Wkv7Head& head);
void Wkv7HeadOfAvx2(const Wkv7Head& head);
void Wkv7HeadOfAvx512(const Wkv7Head& head);

}  // namespace dreamstate::kernels
