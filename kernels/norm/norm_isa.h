// What each instruction set implements of the normalisations; norm.cc chooses.
#pragma once

#include <cstdint>

#include "kernels/norm/norm.h"

namespace dreamstate::kernels {

struct LayerNormInputs {
  const float* x;
  const float* weight;
  const float* bias;
  float epsilon;
  int width;
  float* y;
};

// Rows [begin, end) of each. The tables are constant-initialised: no code of a wide instruction set
// runs before it is chosen.
struct NormKernels {
  void (*layer_norm)(const LayerNormInputs& inputs, int64_t begin, int64_t end);
  void (*group_norm_bonus_gate)(const GroupNormBonusGate& inputs, float* out, int64_t begin,
                                int64_t end);
};

extern const NormKernels kNormReference;
extern const NormKernels kNormAvx2;
extern const NormKernels kNormAvx512;

}  // namespace dreamstate::kernels
