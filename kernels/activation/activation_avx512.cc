#include "kernels/activation/activation_vector.h"
#include "kernels/runtime/vector_avx512.h"

namespace dreamstate::kernels {

void TimeMixGatesOfAvx512(const TimeMixGates& gates, int64_t begin, int64_t end) {
  TimeMixGatesVector<VectorAvx512>(gates, begin, end);
}

}  // namespace dreamstate::kernels
