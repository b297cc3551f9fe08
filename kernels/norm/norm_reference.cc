#include "kernels/norm/norm_reference.h"

#include "kernels/norm/norm_isa.h"

namespace dreamstate::kernels {
namespace {

void LayerNormRows(const LayerNormInputs& in, int64_t begin, int64_t end) {
  const int64_t at = begin * in.width;
  LayerNormReference<float>(in.x + at, in.weight, in.bias, in.epsilon,
                            static_cast<int>(end - begin), in.width, in.y + at);
}

void GroupNormRows(const GroupNormBonusGate& in, float* out, int64_t begin, int64_t end) {
  const int64_t at = begin * in.heads * in.head_size;
  GroupNormBonusGateReference<float>(in.heads, in.head_size, in.epsilon, in.weight, in.bias, in.r_k,
                                     in.y + at, in.r + at, in.k + at, in.v + at, in.g + at,
                                     static_cast<int>(end - begin), out + at);
}

}  // namespace

constinit const NormKernels kNormReference = {LayerNormRows, GroupNormRows};

}  // namespace dreamstate::kernels
