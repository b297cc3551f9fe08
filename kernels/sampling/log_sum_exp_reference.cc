#include <cmath>

#include "kernels/sampling/log_sum_exp_isa.h"

namespace dreamstate::kernels {

ExpSum ExpSumOfReference(const float* logits, int vocab) {
  float greatest = logits[0];
  for (int i = 1; i < vocab; ++i) greatest = logits[i] > greatest ? logits[i] : greatest;
  // Sixteen sums, so that a long row loses no more digits here than in vector code.
  float sums[16] = {};
  for (int i = 0; i < vocab; ++i) sums[i % 16] += std::exp(logits[i] - greatest);
  float sum = 0.0f;
  for (const float lane : sums) sum += lane;
  return {greatest, sum};
}

}  // namespace dreamstate::kernels
