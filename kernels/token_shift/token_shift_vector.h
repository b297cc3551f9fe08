// Token shift for a vector type V: each vector of the two rows is read once for all mixes.
#pragma once

#include "kernels/token_shift/token_shift_isa.h"

namespace dreamstate::kernels {

template <class V>
inline void TokenShiftVector(const TokenShiftRow& row) {
  using Type = typename V::Type;
  for (int i = 0; i < row.width; i += V::kLanes) {
    const typename V::Mask mask = V::FirstLanes(row.width - i);
    const Type current = V::Load(row.current + i, mask);
    const Type change = V::Sub(V::Load(row.previous + i, mask), current);
    for (int m = 0; m < row.mix_count; ++m) {
      const Type mixed = V::Fma(change, V::Load(row.mixes[m] + i, mask), current);
      V::Store(row.out[m] + row.offset + i, mask, mixed);
    }
  }
}

}  // namespace dreamstate::kernels
