#include "kernels/gemm/gemm_avx512_tiles.h"
#include "kernels/gemm/gemm_int8_vector.h"

namespace dreamstate::kernels {

constinit const GemmKernels kGemmAvx512 = {{
    {GemmBlockVector<Avx512Tiles<Float32Product<VectorAvx512>>>, nullptr, 1, 4},
    {GemmBlockVector<Avx512Tiles<WidenedBf16Product<VectorAvx512>>>, RoundRowWidened<VectorAvx512>,
     2, 8},
    {GemmBlockVector<Avx512Tiles<WidenedInt8Product<VectorAvx512>>>,
     QuantizeRowWidened<VectorAvx512>, kInt8Group, Int8Sums<VectorAvx512, 8>::kXBlockBytes, true},
}};

}  // namespace dreamstate::kernels
