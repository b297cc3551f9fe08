#include "kernels/gemm/gemm_avx512vnni.h"

namespace dreamstate::kernels {
namespace {

// Two bf16 inputs a step by vdpbf16ps.
struct PairProduct : FloatSums<VectorAvx512, 4> {
  static constexpr int kStepInputs = 2;
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
  static __m512 Multiply(Weight w, Factor x, __m512 sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }

 private:
  // A pair of bf16 read as one word.
  using Word = int __attribute__((may_alias));
};

void RoundRow(const float* x, int inputs, std::byte* rounded, int64_t) {
  using V = VectorAvx512;
  const int padded = inputs + inputs % 2;
  for (int k = 0; k < padded; k += V::kLanes) {
    const __m512 value = V::RoundToBf16(V::Load(x + k, V::FirstLanes(inputs - k)));
    const __m512i high = _mm512_srli_epi32(_mm512_castps_si512(value), 16);
    _mm512_mask_cvtepi32_storeu_epi16(rounded + k * 2, V::FirstLanes(padded - k), high);
  }
}

}  // namespace

constinit const GemmKernels kGemmAvx512Bf16 = {{
    {GemmBlockVector<Avx512Tiles<Float32Product<VectorAvx512>>>, nullptr, 1, 4},
    {GemmBlockVector<Avx512Tiles<PairProduct>>, RoundRow, 2, 4},
    kQuadFormat,
}};

}  // namespace dreamstate::kernels
