// What each instruction set implements of the log-probabilities; log_sum_exp.cc chooses.
#pragma once

namespace dreamstate::kernels {

// The greatest of a row of logits, and the sum of exp(logit - greatest).
struct ExpSum {
  float greatest;
  float sum;
};

ExpSum ExpSumOfReference(const float* logits, int vocab);
ExpSum ExpSumOfAvx2(const float* logits, int vocab);
ExpSum ExpSumOfAvx512(const float* logits, int vocab);

}  // namespace dreamstate::kernels
