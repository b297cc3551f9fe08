// Sixteen floats in an AVX-512 register, as the vector type that kernels' common code is written
// for (see vector_avx2.h for its sibling). Only for files compiled with AVX-512; everything has
// internal linkage, so that no other file can end up with a copy that its processor cannot run.
#pragma once

// GCC 12 warns about the deliberately undefined values inside its own intrinsics (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "kernels/runtime/vector_loop.h"

namespace dreamstate::kernels {
namespace {

struct VectorAvx512 {
  static constexpr int kLanes = 16;
  using Type = __m512;
  using Mask = __mmask16;
  using Int = __m512i;  // sixteen 32-bit whole numbers

  static Mask FirstLanes(int count) {
    return count >= kLanes ? static_cast<Mask>(0xffff) : static_cast<Mask>((1u << count) - 1u);
  }
  static Type Load(const float* p) { return _mm512_loadu_ps(p); }
  static Type Load(const float* p, AllLanes) { return Load(p); }
  static Type Load(const float* p, Mask mask) { return _mm512_maskz_loadu_ps(mask, p); }
  static void Store(float* p, Type a) { _mm512_storeu_ps(p, a); }
  static void Store(float* p, AllLanes, Type a) { Store(p, a); }
  static void Store(float* p, Mask mask, Type a) { _mm512_mask_storeu_ps(p, mask, a); }
  static Type Zero() { return _mm512_setzero_ps(); }
  static Type Set(float a) { return _mm512_set1_ps(a); }

  static Type Add(Type a, Type b) { return _mm512_add_ps(a, b); }
  static Type Sub(Type a, Type b) { return _mm512_sub_ps(a, b); }
  static Type Mul(Type a, Type b) { return _mm512_mul_ps(a, b); }
  static Type Div(Type a, Type b) { return _mm512_div_ps(a, b); }
  static Type Sqrt(Type a) { return _mm512_sqrt_ps(a); }
  // a * b + c, rounded once.
  static Type Fma(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
  // b where either is NaN.
  static Type Max(Type a, Type b) { return _mm512_max_ps(a, b); }
  static Type Min(Type a, Type b) { return _mm512_min_ps(a, b); }
  static Type Round(Type a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // a * 2^n, n integral.
  static Type Scale(Type a, Type n) { return _mm512_scalef_ps(a, n); }
  static Type Abs(Type a) { return _mm512_abs_ps(a); }
  static Type CopySign(Type a, Type sign) {
    const __m512i bit = _mm512_set1_epi32(static_cast<int>(0x80000000u));
    // sign where the bit is set, a elsewhere.
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign), _mm512_castps_si512(a), 0xca));
  }
  static Mask Less(Type a, Type b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static Type Select(AllLanes, Type yes, Type) { return yes; }
  static Type Select(Mask mask, Type yes, Type no) { return _mm512_mask_blend_ps(mask, no, yes); }

  // Sums of lanes by halves: the same order on every compiler.
  static float Sum(Type a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float Largest(Type a) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  // The nearest bf16 (ties to even, NaN stays NaN) as a float.
  static Type RoundToBf16(Type a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(
        _mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  // Sixteen bf16 (their bits), widened; and sixteen floats rounded to them.
  static Type LoadBf16(const unsigned short* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
  }
  static void StoreBf16(unsigned short* p, Type a) {
    const __m512i high = _mm512_srli_epi32(_mm512_castps_si512(RoundToBf16(a)), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  }
  // The first, or the second, bf16 of each of sixteen pairs, widened.
  static Type LoadFirstOfPairs(const void* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
  }
  static Type LoadSecondOfPairs(const void* p) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static Int SetInt(int a) { return _mm512_set1_epi32(a); }
  static void StoreInt(int* p, Int a) { _mm512_storeu_si512(p, a); }
  static Int AddInt(Int a, Int b) { return _mm512_add_epi32(a, b); }
  // Without sign.
  static Int MaxInt(Int a, Int b) { return _mm512_max_epu32(a, b); }
  // The bits of |a|.
  static Int Magnitude(Type a) {
    return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff));
  }
  static Type ToFloat(Int a) { return _mm512_cvtepi32_ps(a); }
  // To nearest, ties to even.
  static Int ToInt(Type a) { return _mm512_cvtps_epi32(a); }
  // Of the four bytes of each lane the first and the third, or the second and the fourth, as 16-bit
  // numbers.
  static Int LoadEvenBytes(const void* p) {
    return _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(0x00ff00ff));
  }
  static Int LoadOddBytes(const void* p) { return _mm512_srli_epi16(_mm512_loadu_si512(p), 8); }
  // sum + the products of both 16-bit numbers of each lane.
  static Int MultiplyPairs(Int a, Int b, Int sum) {
    // The sum is added to by hand: around the intrinsic GCC 12 copies and spills the sums of large
    // tiles.
    asm("vpaddd %1, %0, %0" : "+v"(sum) : "v"(_mm512_madd_epi16(a, b)));
    return sum;
  }
};

}  // namespace
}  // namespace dreamstate::kernels
