#include <immintrin.h>

#include "tests/benchmarks/kernels/machine_limits_isa.h"

namespace dreamstate::kernels {

float ReadAvx512(const float* data, size_t count) {
  constexpr int kWays = 8;
  __m512 sums[kWays];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (size_t i = 0; i < count; i += kWays * 16) {
    for (int k = 0; k < kWays; ++k)
      sums[k] = _mm512_add_ps(sums[k], _mm512_load_ps(data + i + k * 16));
  }
  for (int k = 1; k < kWays; ++k) sums[0] = _mm512_add_ps(sums[0], sums[k]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sums[0]);
  return lanes[0];
}

float MultiplyAddAvx512(int64_t steps) {
  __m512 sums[kChains];
  __m512 a = _mm512_set1_ps(1.0001f);
  __m512 b = _mm512_set1_ps(1e-9f);
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
    // Opaque, so that the compiler does not see that all chains are the same.
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < steps; ++i) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(a, b, sum);
    asm volatile("" : "+v"(a), "+v"(b));
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm512_add_ps(sums[0], sums[k]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sums[0]);
  return lanes[0];
}

float MultiplyAddPairsAvx512(int64_t steps) {
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
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
      asm volatile("" : "+v"(a), "+v"(b));
    }
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm512_add_epi32(sums[0], sums[k]);
  int lanes[16];
  _mm512_storeu_si512(lanes, sums[0]);
  return static_cast<float>(lanes[0]);
}

}  // namespace dreamstate::kernels
