#include "kernels/activation/activation_reference.h"

#include "kernels/activation/activation_isa.h"

namespace dreamstate::kernels {

void TimeMixGatesOfReference(const TimeMixGates& g, int64_t begin, int64_t end) {
  const int64_t at = begin * g.heads * g.head_size;
  const bool mixes_values = g.v0 != nullptr;
  TimeMixGatesReference<float>(g.heads, g.head_size, g.w0, g.a0, g.v0, g.k_k, g.k_a, g.w + at,
                               g.a + at, mixes_values ? g.v_mix + at : nullptr,
                               mixes_values ? g.v_first + at : nullptr, g.k + at, g.v + at,
                               g.kk + at, static_cast<int>(end - begin));
}

}  // namespace dreamstate::kernels
