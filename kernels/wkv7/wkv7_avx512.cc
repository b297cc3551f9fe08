#include "kernels/runtime/vector_avx512.h"
#include "kernels/wkv7/wkv7_vector.h"

namespace dreamstate::kernels {

// 4 vectors: with them the sums, the values and sa fill the registers.
void Wkv7HeadOfAvx512(const Wkv7Head& head) { Wkv7HeadVector<VectorAvx512, 4>(head); }

}  // namespace dreamstate::kernels
