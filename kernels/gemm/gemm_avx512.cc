#include "kernels/gemm/gemm_avx512_tiles.h"

namespace dreamstate::kernels {

constinit const GemmKernels kGemmAvx512 = {
    .float32 = GemmBlockVector<Avx512Tiles<Float32Product<VectorAvx512>>>,
    .bfloat16 = GemmBlockVector<Avx512Tiles<WidenedBf16Product<VectorAvx512>>>,
    .round_row = RoundRowWidened<VectorAvx512>,
    .rounded_bytes = 4,
};

}  // namespace dreamstate::kernels
