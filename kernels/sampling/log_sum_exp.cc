#include "kernels/sampling/log_sum_exp.h"

#include <cmath>

#include "kernels/runtime/cpu.h"
#include "kernels/sampling/log_sum_exp_isa.h"

namespace dreamstate::kernels {
namespace {

using RowFunction = ExpSum (*)(const float*, int);
constexpr RowFunction kByIsa[kIsaCount] = {
    ExpSumOfReference,  // reference
    ExpSumOfAvx2,       // avx2
    ExpSumOfAvx512,     // avx512
    ExpSumOfAvx512,     // avx512vnni
    ExpSumOfAvx512,     // avx512bf16
    ExpSumOfAvx512,     // amx
};

// Logits that one piece of a parallel region should have; fewer in all run inline.
constexpr int64_t kPieceLogits = 16 * 1024;

}  // namespace

void NegativeLogLikelihood(const float* logits, int64_t stride, int rows, int vocab,
                           const int32_t* target, float* nll, ThreadPool& pool) {
  const RowFunction row_function = kByIsa[static_cast<int>(ActiveIsa())];
  pool.ParallelFor(rows, kPieceLogits / (vocab + 1) + 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      if (target[t] < 0) {
        nll[t] = 0.0f;
        continue;
      }
      const float* row = logits + t * stride;
      const ExpSum found = row_function(row, vocab);
      nll[t] = std::log(found.sum) + (found.greatest - row[target[t]]);
    }
  });
}

}  // namespace dreamstate::kernels
