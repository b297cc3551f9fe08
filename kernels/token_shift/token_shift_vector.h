// Token shift for a vector type V: each vector of the two rows is read once for all mixes.
#pragma once

#include "kernels/runtime/vector_loop.h"
#include "kernels/token_shift/token_shift_isa.h"

namespace dreamstate::kernels {

template <class V>
inline void TokenShiftVector(const TokenShiftRow& row) {
  using Type = typename V::Type;
  ForEachVector<V>(row.width, [&row](int i, auto lanes) {
    const Type current = V::Load(row.current + i, lanes);
    const Type change = V::Sub(V::Load(row.previous + i, lanes), current);
    for (int m = 0; m < row.mix_count; ++m) {
      const Type mixed = V::Fma(change, V::Load(row.mixes[m] + i, lanes), current);
      V::Store(row.out[m] + row.offset + i, lanes, mixed);
    }
  });
}

}  // namespace dreamstate::kernels
