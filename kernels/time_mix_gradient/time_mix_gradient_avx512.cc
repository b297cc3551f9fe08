#include "kernels/runtime/vector_avx512.h"
#include "kernels/time_mix_gradient/time_mix_gradient_vector.h"

namespace dreamstate::kernels {

constinit const TimeMixKernels kTimeMixAvx512 = {kTimeMixFunctions<VectorAvx512, float>,
                                                 kTimeMixFunctions<VectorAvx512, Bf16>};

}  // namespace dreamstate::kernels
