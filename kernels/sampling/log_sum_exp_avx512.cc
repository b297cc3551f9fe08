#include "kernels/runtime/vector_avx512.h"
#include "kernels/sampling/log_sum_exp_vector.h"

namespace dreamstate::kernels {

ExpSum ExpSumOfAvx512(const float* logits, int vocab) {
  return ExpSumVector<VectorAvx512>(logits, vocab);
}

}  // namespace dreamstate::kernels
