#include "kernels/runtime/vector_avx2.h"
#include "kernels/sampling/log_sum_exp_vector.h"

namespace dreamstate::kernels {

ExpSum ExpSumOfAvx2(const float* logits, int vocab) {
  return ExpSumVector<VectorAvx2>(logits, vocab);
}

}  // namespace dreamstate::kernels
