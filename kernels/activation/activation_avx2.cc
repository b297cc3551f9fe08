#include "kernels/activation/activation_vector.h"
#include "kernels/runtime/vector_avx2.h"

namespace dreamstate::kernels {

void TimeMixGatesOfAvx2(const TimeMixGates& gates, int64_t begin, int64_t end) {
  TimeMixGatesVector<VectorAvx2>(gates, begin, end);
}

}  // namespace dreamstate::kernels
