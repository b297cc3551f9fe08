#include <immintrin.h>

#include "tests/benchmarks/kernels/machine_limits_isa.h"

namespace dreamstate::kernels {

float ReadAvx2(const float* data, size_t count) {
  constexpr int kWays = 8;
  __m256 sums[kWays];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (size_t i = 0; i < count; i += kWays * 8) {
    for (int k = 0; k < kWays; ++k)
      sums[k] = _mm256_add_ps(sums[k], _mm256_load_ps(data + i + k * 8));
  }
  for (int k = 1; k < kWays; ++k) sums[0] = _mm256_add_ps(sums[0], sums[k]);
  float lanes[8];
  _mm256_storeu_ps(lanes, sums[0]);
  return lanes[0];
}

float MultiplyAddAvx2(int64_t steps) {
  __m256 sums[kChains];
  __m256 a = _mm256_set1_ps(1.0001f);
  __m256 b = _mm256_set1_ps(1e-9f);
  for (__m256& sum : sums) {
    sum = _mm256_setzero_ps();
    // Opaque, so that the compiler does not see that all chains are the same.
    asm volatile("" : "+x"(sum));
  }
  for (int64_t i = 0; i < steps; ++i) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(a, b, sum);
    asm volatile("" : "+x"(a), "+x"(b));
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm256_add_ps(sums[0], sums[k]);
  float lanes[8];
  _mm256_storeu_ps(lanes, sums[0]);
  return lanes[0];
}

float MultiplyAddPairsAvx2(int64_t steps) {
  __m256i sums[kChains];
  __m256i a = _mm256_set1_epi8(3);
  __m256i b = _mm256_set1_epi8(1);
  for (__m256i& sum : sums) {
    sum = _mm256_setzero_si256();
    // Opaque, so that the compiler does not see that all chains are the same.
    asm volatile("" : "+x"(sum));
  }
  for (int64_t i = 0; i < steps; ++i) {
    for (__m256i& sum : sums) {
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
      asm volatile("" : "+x"(a), "+x"(b));
    }
  }
  for (int k = 1; k < kChains; ++k) sums[0] = _mm256_add_epi32(sums[0], sums[k]);
  int lanes[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), sums[0]);
  return static_cast<float>(lanes[0]);
}

}  // namespace dreamstate::kernels
