#include "kernels/runtime/vector_avx2.h"
#include "kernels/time_mix_gradient/time_mix_gradient_vector.h"

namespace dreamstate::kernels {

constinit const TimeMixKernels kTimeMixAvx2 = {kTimeMixFunctions<VectorAvx2, float>,
                                               kTimeMixFunctions<VectorAvx2, Bf16>};

}  // namespace dreamstate::kernels
