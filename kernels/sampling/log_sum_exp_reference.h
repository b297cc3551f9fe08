// Log-probabilities by plain loops, in float or double.
#pragma once

#include <cmath>
#include <cstdint>

namespace dreamstate::kernels {

// ln(sum over v of exp(logits[v])) - logits[target] of one row; 0 where target is -1.
template <typename T>
T NegativeLogLikelihoodReference(const T* logits, int vocab, int32_t target) {
  if (target < 0) return T(0);
  T greatest = logits[0];
  for (int i = 1; i < vocab; ++i) greatest = logits[i] > greatest ? logits[i] : greatest;
  T sum = T(0);
  for (int i = 0; i < vocab; ++i) sum += std::exp(logits[i] - greatest);
  return std::log(sum) + (greatest - logits[target]);
}

}  // namespace dreamstate::kernels
