#include "kernels/norm/norm.h"

#include "kernels/norm/norm_isa.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::kernels {
namespace {

constexpr const NormKernels* kByIsa[kIsaCount] = {
    &kNormReference,  // reference
    &kNormAvx2,       // avx2
    &kNormAvx512,     // avx512
    &kNormAvx512,     // avx512vnni
    &kNormAvx512,     // avx512bf16
    &kNormAvx512,     // amx
};

// Elements that one piece of a parallel region should have; fewer in all run inline.
constexpr int64_t kPieceElements = 16 * 1024;

const NormKernels& Active() { return *kByIsa[static_cast<int>(ActiveIsa())]; }

}  // namespace

void LayerNorm(const float* x, const float* weight, const float* bias, float epsilon, int rows,
               int width, float* y, ThreadPool& pool) {
  const NormKernels& kernels = Active();
  const LayerNormInputs inputs = {x, weight, bias, epsilon, width, y};
  pool.ParallelFor(rows, kPieceElements / (width + 1) + 1, [&](int64_t begin, int64_t end, int) {
    kernels.layer_norm(inputs, begin, end);
  });
}

void GroupNormBonusGateRows(const GroupNormBonusGate& inputs, int rows, float* out,
                            ThreadPool& pool) {
  const NormKernels& kernels = Active();
  const int64_t width = static_cast<int64_t>(inputs.heads) * inputs.head_size;
  pool.ParallelFor(rows, kPieceElements / (width + 1) + 1, [&](int64_t begin, int64_t end, int) {
    kernels.group_norm_bonus_gate(inputs, out, begin, end);
  });
}

}  // namespace dreamstate::kernels
