// Token shift: mixes each token's vector with the one before it in its own sequence.
//   d = previous - current;  out_m = current + d ⊙ mix_m      for each m of several mixes
// The vector before a sequence's first token is carried in its state; afterwards the state carries
// the sequence's last vector. Each row gives the same bits in any batch and any split. Thread-safe
// for distinct outputs. No allocation.
#pragma once

#include <span>

#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

struct TokenShiftBatch {
  int width;                    // D
  std::span<const int> tokens;  // [B] tokens of each sequence, >= 1
  std::span<float* const>
      carried;     // [B] -> [D], read, then overwritten with the sequence's last row of x
  const float* x;  // [sum(tokens)][D]
  std::span<const float* const> mixes;  // [M] -> [D], 1 <= M <= 6
  std::span<float* const> out;          // [M] -> [sum(tokens)][D]
};

void TokenShift(const TokenShiftBatch& batch, ThreadPool& pool);

}  // namespace dreamstate::kernels
