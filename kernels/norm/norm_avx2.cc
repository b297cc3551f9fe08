#include "kernels/norm/norm_vector.h"
#include "kernels/runtime/vector_avx2.h"

namespace dreamstate::kernels {

constinit const NormKernels kNormAvx2 = {LayerNormVector<VectorAvx2>,
                                         GroupNormBonusGateVector<VectorAvx2>};

}  // namespace dreamstate::kernels
