// Token shift by plain loops, in float or double.
#pragma once

#include <cstdint>

namespace dreamstate::kernels {

// One sequence, one mix: out[t] = x[t] + (x[t - 1] - x[t]) ⊙ mix with x[-1] = carried. x, out:
// [tokens][width]; carried and mix: [width]. The caller stores the last row of x as the new carried
// vector.
template <typename T>
void TokenShiftReference(const T* carried, const T* x, const T* mix, int tokens, int width,
                         T* out) {
  for (int t = 0; t < tokens; ++t) {
    const T* current = x + static_cast<int64_t>(t) * width;
    const T* previous = t == 0 ? carried : current - width;
    T* row = out + static_cast<int64_t>(t) * width;
    for (int i = 0; i < width; ++i) row[i] = current[i] + (previous[i] - current[i]) * mix[i];
  }
}

}  // namespace dreamstate::kernels
