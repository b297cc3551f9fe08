// Eight floats in an AVX register, as the vector type that kernels' common code is written for (see
// vector_avx512.h for its sibling). Only for files compiled with AVX2 and FMA; everything has
// internal linkage, so that no other file can end up with a copy that its processor cannot run.
#pragma once

#include <immintrin.h>

#include "kernels/runtime/vector_loop.h"

namespace dreamstate::kernels {
namespace {

struct VectorAvx2 {
  static constexpr int kLanes = 8;
  using Type = __m256;
  using Mask = __m256i;  // all bits of a lane
  using Int = __m256i;   // eight 32-bit whole numbers

  static Mask FirstLanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Type Load(const float* p) { return _mm256_loadu_ps(p); }
  static Type Load(const float* p, AllLanes) { return Load(p); }
  static Type Load(const float* p, Mask mask) { return _mm256_maskload_ps(p, mask); }
  static void Store(float* p, Type a) { _mm256_storeu_ps(p, a); }
  static void Store(float* p, AllLanes, Type a) { Store(p, a); }
  static void Store(float* p, Mask mask, Type a) { _mm256_maskstore_ps(p, mask, a); }
  static Type Zero() { return _mm256_setzero_ps(); }
  static Type Set(float a) { return _mm256_set1_ps(a); }

  static Type Add(Type a, Type b) { return _mm256_add_ps(a, b); }
  static Type Sub(Type a, Type b) { return _mm256_sub_ps(a, b); }
  static Type Mul(Type a, Type b) { return _mm256_mul_ps(a, b); }
  static Type Div(Type a, Type b) { return _mm256_div_ps(a, b); }
  static Type Sqrt(Type a) { return _mm256_sqrt_ps(a); }
  // a * b + c, rounded once.
  static Type Fma(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }
  // b where either is NaN.
  static Type Max(Type a, Type b) { return _mm256_max_ps(a, b); }
  static Type Min(Type a, Type b) { return _mm256_min_ps(a, b); }
  static Type Round(Type a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // a * 2^n, n integral and within [-252, 254]: in two steps, since a single factor may not be
  // representable.
  static Type Scale(Type a, Type n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return Mul(Mul(a, PowerOfTwo(half)), PowerOfTwo(_mm256_sub_epi32(whole, half)));
  }
  static Type Abs(Type a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static Type CopySign(Type a, Type sign) {
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign));
  }
  static Mask Less(Type a, Type b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
  static Type Select(AllLanes, Type yes, Type) { return yes; }
  static Type Select(Mask mask, Type yes, Type no) {
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(mask));
  }

  // Sums of lanes by halves: the same order on every compiler.
  static float Sum(Type a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float Largest(Type a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  // The nearest bf16 (ties to even, NaN stays NaN) as a float.
  static Type RoundToBf16(Type a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    const __m256 chosen =
        _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), is_nan);
    return _mm256_and_ps(chosen,
                         _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  // Eight bf16 (their bits), widened; and eight floats rounded to them.
  static Type LoadBf16(const unsigned short* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
  }
  static void StoreBf16(unsigned short* p, Type a) {
    const __m256i high = _mm256_srli_epi32(_mm256_castps_si256(RoundToBf16(a)), 16);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
  }
  // The first, or the second, bf16 of each of eight pairs, widened.
  static Type LoadFirstOfPairs(const void* p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)), 16));
  }
  static Type LoadSecondOfPairs(const void* p) {
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(static_cast<const __m256i*>(p)),
                                                _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static Int SetInt(int a) { return _mm256_set1_epi32(a); }
  static void StoreInt(int* p, Int a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
  static Int AddInt(Int a, Int b) { return _mm256_add_epi32(a, b); }
  // Without sign.
  static Int MaxInt(Int a, Int b) { return _mm256_max_epu32(a, b); }
  // The bits of |a|.
  static Int Magnitude(Type a) {
    return _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffffff));
  }
  static Type ToFloat(Int a) { return _mm256_cvtepi32_ps(a); }
  // To nearest, ties to even.
  static Int ToInt(Type a) { return _mm256_cvtps_epi32(a); }
  // Of the four bytes of each lane the first and the third, or the second and the fourth, as 16-bit
  // numbers.
  static Int LoadEvenBytes(const void* p) {
    return _mm256_and_si256(_mm256_loadu_si256(static_cast<const __m256i*>(p)),
                            _mm256_set1_epi32(0x00ff00ff));
  }
  static Int LoadOddBytes(const void* p) {
    return _mm256_srli_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(p)), 8);
  }
  // sum + the products of both 16-bit numbers of each lane.
  static Int MultiplyPairs(Int a, Int b, Int sum) {
    // The sum is added to by hand: around the intrinsic GCC 12 copies and spills the sums of large
    // tiles.
    asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(_mm256_madd_epi16(a, b)));
    return sum;
  }

 private:
  static Type PowerOfTwo(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};

}  // namespace
}  // namespace dreamstate::kernels
