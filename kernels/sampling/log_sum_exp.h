// Turns rows of logits into log-probabilities of given tokens. Sums in fp32 vector lanes in one
// fixed order (the same bits in any batch). Thread-safe for distinct outputs. No allocation.
#pragma once

#include <cstdint>

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

// nll[t] = ln(sum over v of exp(logits[t][v])) - logits[t][target[t]], in nats; 0 where target[t]
// is -1. logits: [rows][stride], stride >= vocab; target[t] in [-1, vocab).
void NegativeLogLikelihood(const float* logits, int64_t stride, int rows, int vocab,
                           const int32_t* target, float* nll, ThreadPool& pool);

}  // namespace dreamstate::kernels
