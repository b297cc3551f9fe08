#include <immintrin.h>

#include "tests/benchmarks/kernels/machine_limits_isa.h"

namespace dreamstate::kernels {

float MultiplyAddInt8(int64_t steps) {
  __m512i sums[kChains];
  __m512i a = _mm512_set1_epi8(3);
  __m512i b = _mm512_set1_epi8(1);
  for (__m512i& sum : sums) {
    sum = _mm512_setzero_si512();
    // Opaque, so that the compiler does not see that all chains are the same.
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < steps; ++i) {
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, a, b);
      asm volatile("" : "+v"(a), "+v"(b));
    }
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm512_add_epi32(sums[0], sums[k]);
  int lanes[16];
  _mm512_storeu_si512(lanes, sums[0]);
  return static_cast<float>(lanes[0]);
}

}  // namespace dreamstate::kernels
