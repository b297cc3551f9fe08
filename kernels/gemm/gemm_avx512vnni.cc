#include "kernels/gemm/gemm_avx512vnni.h"

namespace dreamstate::kernels {

constinit const GemmKernels kGemmAvx512Vnni = {{
    {GemmBlockVector<Avx512Tiles<Float32Product<VectorAvx512>>>, nullptr, 1, 4},
    {GemmBlockVector<Avx512Tiles<WidenedBf16Product<VectorAvx512>>>, RoundRowWidened<VectorAvx512>,
     2, 8},
    kQuadFormat,
}};

}  // namespace dreamstate::kernels
