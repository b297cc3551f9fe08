// Four int8 inputs a step by vpdpbusd: weights are its unsigned factor, activations its signed one.
// Only for files compiled with AVX-512 VNNI.
#pragma once

#include "kernels/gemm/gemm_avx512_tiles.h"
#include "kernels/gemm/gemm_int8_vector.h"

namespace dreamstate::kernels {
namespace {

struct QuadProduct : Int8Sums<VectorAvx512, 4> {
  static constexpr int kParts = 1;
  using Factor = __m512i;
  using Weight = __m512i;
  template <int kPart>
  static Weight LoadWeight(const std::byte* p) {
    return _mm512_loadu_si512(p);
  }
  template <int kPart>
  static Factor LoadX(const std::byte* p) {
    return _mm512_set1_epi32(*reinterpret_cast<const Word*>(p));
  }
  static __m512i Multiply(Weight w, Factor x, __m512i sum) {
    // Not by its intrinsic: around it GCC 12 copies and spills the sums of large tiles, which costs
    // half of the speed.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
  }

 private:
  // Four bytes read as one word.
  using Word = int __attribute__((may_alias));
};

inline void QuantizeRowBytes(const float* x, int inputs, std::byte* converted, int64_t stride) {
  for (int k = 0; k < inputs; k += kInt8Group) {
    int q[kInt8Group];
    *reinterpret_cast<Int8RowHead*>(converted) =
        QuantizeGroup<VectorAvx512>(x + k, inputs - k < kInt8Group ? inputs - k : kInt8Group, q);
    std::byte* out = converted + sizeof(Int8RowHead);
    for (int i = 0; i < kInt8Group; i += VectorAvx512::kLanes) {
      _mm_store_si128(reinterpret_cast<__m128i*>(out + i),
                      _mm512_cvtepi32_epi8(_mm512_loadu_si512(q + i)));
    }
    converted += stride;
  }
}

constexpr GemmFormat kQuadFormat = {GemmBlockVector<Avx512Tiles<QuadProduct>>, QuantizeRowBytes,
                                    kInt8Group, QuadProduct::kXBlockBytes, true};

}  // namespace
}  // namespace dreamstate::kernels
