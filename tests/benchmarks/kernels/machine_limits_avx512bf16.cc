#include <immintrin.h>

#include "tests/benchmarks/kernels/machine_limits_isa.h"

namespace dreamstate::kernels {

float MultiplyAddBf16(int64_t steps) {
  __m512 sums[kChains];
  __m512i a = _mm512_set1_epi16(0x3f80);
  __m512i b = _mm512_set1_epi16(0x3f80);
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
    // Opaque, so that the compiler does not see that all chains are the same.
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < steps; ++i) {
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
    asm volatile("" : "+v"(a), "+v"(b));
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm512_add_ps(sums[0], sums[k]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sums[0]);
  return lanes[0];
}

}  // namespace dreamstate::kernels
