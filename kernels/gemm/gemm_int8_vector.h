// Products of int8 for gemm_vector.h: sums in whole numbers over one group, then one multiply-add
// of floats a group.
#pragma once

#include "kernels/gemm/gemm_vector.h"
#include "kernels/gemm/int8_group.h"

namespace dreamstate::kernels {

// Sums of a group, for products of kXBytes of x a step. result += (sum * scale of x) * scale of w,
// groups ascending: the same operations on every instruction set.
template <class V, int kXBytes>
struct Int8Sums {
  using Vector = V;
  using Sum = typename V::Int;
  static constexpr int kStepInputs = 4;
  static constexpr int kStepXBytes = kXBytes;
  static constexpr int kBlockSteps = kInt8Steps;
  static constexpr int kMostSteps = kInt8Steps;
  // Two blocks: one passes too fast for memory to answer when rows are few.
  static constexpr int64_t kBlockAhead = 2 * (kInt8Steps + 1) * kGemmStepBytes;
  static constexpr int kWeightHead = kGemmStepBytes;  // scales, as wide as a step
  static constexpr int kXHead = sizeof(Int8RowHead);
  static constexpr int kXBlockBytes = kXHead + kInt8Steps * kXBytes;
  static int64_t WeightOffset(int step) {
    return static_cast<int64_t>(step / kInt8Steps) * (kWeightHead + kInt8Steps * kGemmStepBytes);
  }
  static int64_t XOffset(const GemmBlock& block, int step) {
    return step / kInt8Steps * block.x_block_bytes;
  }
  static Sum Begin(const std::byte* x, bool, const float*) {
    return V::SetInt(reinterpret_cast<const Int8RowHead*>(x)->start);
  }
  static void End(Sum sum, const std::byte* w, const std::byte* x, bool fresh, float* sums) {
    const auto* scales = reinterpret_cast<const float*>(w);
    const typename V::Type scaled =
        V::Mul(V::ToFloat(sum), V::Set(reinterpret_cast<const Int8RowHead*>(x)->scale));
    V::Store(sums, V::Fma(scaled, V::Load(scales), fresh ? V::Zero() : V::Load(sums)));
  }
};

// Four inputs a step as 16-bit numbers, the even ones and then the odd ones: for processors without
// vpdpbusd. (vpmaddubsw, the older instruction for bytes, saturates.)
template <class V>
struct WidenedInt8Product : Int8Sums<V, 8> {
  static constexpr int kParts = 2;
  using Factor = typename V::Int;
  using Weight = typename V::Int;
  template <int kPart>
  static Weight LoadWeight(const std::byte* p) {
    return kPart == 0 ? V::LoadEvenBytes(p) : V::LoadOddBytes(p);
  }
  template <int kPart>
  static Factor LoadX(const std::byte* p) {
    return V::SetInt(reinterpret_cast<const Word*>(p)[kPart]);
  }
  static typename V::Int Multiply(Weight w, Factor x, typename V::Int sum) {
    return V::MultiplyPairs(w, x, sum);
  }

 private:
  // A pair of 16-bit numbers read as one word.
  using Word = int __attribute__((may_alias));
};

// Finds the scale of `count` <= kInt8Group floats and writes q of each and zeros behind them to
// q[kInt8Group].
template <class V>
inline Int8RowHead QuantizeGroup(const float* x, int count, int* q) {
  constexpr int kLanes = V::kLanes;
  int lanes[kLanes];
  typename V::Int most = V::SetInt(0);
  for (int k = 0; k < count; k += kLanes) {
    most = V::MaxInt(most, V::Magnitude(V::Load(x + k, V::FirstLanes(count - k))));
  }
  V::StoreInt(lanes, most);
  unsigned bits = 0;
  for (int i = 0; i < kLanes; ++i) {
    if (static_cast<unsigned>(lanes[i]) > bits) bits = static_cast<unsigned>(lanes[i]);
  }
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof largest);
  float scale = 0.0f;
  float inverse = 0.0f;
  if (bits >= kInt8NotFinite) {
    scale = __builtin_nanf("");
    count = 0;  // nothing of it is used
  } else if (bits >= kInt8Least) {
    scale = largest / 127.0f;
    inverse = 127.0f / largest;
  }
  typename V::Int total = V::SetInt(0);
  for (int k = 0; k < kInt8Group; k += kLanes) {
    const typename V::Type values = V::Load(x + k, V::FirstLanes(count > k ? count - k : 0));
    const typename V::Int whole = V::ToInt(V::Mul(values, V::Set(inverse)));
    total = V::AddInt(total, whole);
    V::StoreInt(q + k, whole);
  }
  V::StoreInt(lanes, total);
  int sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += lanes[i];
  return {scale, -128 * sum};
}

// Converts a row for WidenedInt8Product.
template <class V>
inline void QuantizeRowWidened(const float* x, int inputs, std::byte* converted, int64_t stride) {
  for (int k = 0; k < inputs; k += kInt8Group) {
    int q[kInt8Group];
    *reinterpret_cast<Int8RowHead*>(converted) =
        QuantizeGroup<V>(x + k, inputs - k < kInt8Group ? inputs - k : kInt8Group, q);
    auto* out = reinterpret_cast<short*>(converted + sizeof(Int8RowHead));
    for (int i = 0; i < kInt8Group; i += 4) {
      out[i] = static_cast<short>(q[i]);
      out[i + 1] = static_cast<short>(q[i + 2]);
      out[i + 2] = static_cast<short>(q[i + 1]);
      out[i + 3] = static_cast<short>(q[i + 3]);
    }
    converted += stride;
  }
}

}  // namespace dreamstate::kernels
