#include "kernels/norm/norm_vector.h"
#include "kernels/runtime/vector_avx512.h"

namespace dreamstate::kernels {

constinit const NormKernels kNormAvx512 = {LayerNormVector<VectorAvx512>,
                                           GroupNormBonusGateVector<VectorAvx512>};

}  // namespace dreamstate::kernels
