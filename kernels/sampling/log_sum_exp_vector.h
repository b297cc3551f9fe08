// Greatest logit and sum of exponentials for a vector type V.
#pragma once

#include "kernels/activation/vector_math.h"
#include "kernels/sampling/log_sum_exp_isa.h"

namespace dreamstate::kernels {

template <class V>
inline ExpSum ExpSumVector(const float* logits, int vocab) {
  using Type = typename V::Type;
  // Four of each hide the latency; lanes past the end count as -infinity.
  constexpr int kWays = 4;
  const Type nothing = V::Set(-__builtin_inff());
  const auto load = [logits, vocab, nothing](int i) {
    if (i + V::kLanes <= vocab) return V::Load(logits + i);
    const typename V::Mask mask = V::FirstLanes(vocab - i > 0 ? vocab - i : 0);
    return V::Select(mask, V::Load(logits + i, mask), nothing);
  };
  Type greatest[kWays] = {nothing, nothing, nothing, nothing};
  for (int i = 0; i < vocab; i += kWays * V::kLanes) {
    for (int s = 0; s < kWays; ++s) greatest[s] = V::Max(greatest[s], load(i + s * V::kLanes));
  }
  ExpSum found;
  found.greatest =
      V::Largest(V::Max(V::Max(greatest[0], greatest[1]), V::Max(greatest[2], greatest[3])));
  const Type offset = V::Set(found.greatest);
  Type sums[kWays] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  for (int i = 0; i < vocab; i += kWays * V::kLanes) {
    for (int s = 0; s < kWays; ++s) {
      sums[s] = V::Add(sums[s], Exp<V>(V::Sub(load(i + s * V::kLanes), offset)));
    }
  }
  found.sum = V::Sum(V::Add(V::Add(sums[0], sums[1]), V::Add(sums[2], sums[3])));
  return found;
}

}  // namespace dreamstate::kernels
