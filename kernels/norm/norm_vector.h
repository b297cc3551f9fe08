// Normalisations for a vector type V. Sums run over a row in an order that depends on its width
// alone.
#pragma once

#include "kernels/norm/norm_isa.h"
#include "kernels/runtime/vector_loop.h"

namespace dreamstate::kernels {

// Sum over i < width of term(i, lanes that exist); `term` gives 0 in the others. Four
// sums hide the latency of an add.
template <class V, class Term>
inline float SumOver(int width, const Term& term) {
  typename V::Type sums[4] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  int i = 0;
  for (; i + 4 * V::kLanes <= width; i += 4 * V::kLanes) {
    for (int s = 0; s < 4; ++s) {
      sums[s] = V::Add(sums[s], term(i + s * V::kLanes, AllLanes{}));
    }
  }
  for (; i + V::kLanes <= width; i += V::kLanes) sums[0] = V::Add(sums[0], term(i, AllLanes{}));
  if (i < width) sums[0] = V::Add(sums[0], term(i, V::FirstLanes(width - i)));
  return V::Sum(V::Add(V::Add(sums[0], sums[1]), V::Add(sums[2], sums[3])));
}

// 1 / sqrt(variance + epsilon) in every lane.
template <class V>
inline typename V::Type InverseDeviation(float variance, float epsilon) {
  return V::Div(V::Set(1.0f), V::Sqrt(V::Set(variance + epsilon)));
}

// Mean of a row, and the inverse of its deviation in every lane.
template <class V>
struct Moments {
  typename V::Type mean;
  typename V::Type scale;
};

template <class V>
inline Moments<V> MomentsOf(const float* x, int width, float epsilon) {
  using Type = typename V::Type;
  const float count = static_cast<float>(width);
  const Type mean =
      V::Set(SumOver<V>(width, [x](int i, auto lanes) { return V::Load(x + i, lanes); }) / count);
  const float squares = SumOver<V>(width, [x, mean](int i, auto lanes) {
    const Type d = V::Select(lanes, V::Sub(V::Load(x + i, lanes), mean), V::Zero());
    return V::Mul(d, d);
  });
  return {mean, InverseDeviation<V>(squares / count, epsilon)};
}

template <class V>
inline void LayerNormVector(const LayerNormInputs& in, int64_t begin, int64_t end) {
  using Type = typename V::Type;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = in.x + row * in.width;
    float* y = in.y + row * in.width;
    const Moments<V> moments = MomentsOf<V>(x, in.width, in.epsilon);
    ForEachVector<V>(in.width, [&in, &moments, x, y](int i, auto lanes) {
      const Type normed = V::Mul(V::Sub(V::Load(x + i, lanes), moments.mean), moments.scale);
      V::Store(y + i, lanes,
               V::Fma(normed, V::Load(in.weight + i, lanes), V::Load(in.bias + i, lanes)));
    });
  }
}

template <class V>
inline void GroupNormBonusGateVector(const GroupNormBonusGate& in, float* out, int64_t begin,
                                     int64_t end) {
  using Type = typename V::Type;
  const int64_t width = static_cast<int64_t>(in.heads) * in.head_size;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t c = 0; c < width; c += in.head_size) {
      const int64_t head = row * width + c;
      const Type bonus = V::Set(SumOver<V>(in.head_size, [&in, head, c](int i, auto) {
        return V::Mul(V::Mul(V::Load(in.r + head + i), V::Load(in.k + head + i)),
                      V::Load(in.r_k + c + i));
      }));
      const Moments<V> moments = MomentsOf<V>(in.y + head, in.head_size, in.epsilon);
      for (int i = 0; i < in.head_size; i += V::kLanes) {
        const int64_t e = head + i;
        const Type normed = V::Mul(V::Sub(V::Load(in.y + e), moments.mean), moments.scale);
        const Type affine = V::Fma(normed, V::Load(in.weight + c + i), V::Load(in.bias + c + i));
        V::Store(out + e, V::Mul(V::Fma(bonus, V::Load(in.v + e), affine), V::Load(in.g + e)));
      }
    }
  }
}

}  // namespace dreamstate::kernels
