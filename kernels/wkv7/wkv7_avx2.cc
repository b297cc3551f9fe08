#include "kernels/runtime/vector_avx2.h"
#include "kernels/wkv7/wkv7_vector.h"

namespace dreamstate::kernels {

// 2 vectors: with them the sums, the values and sa fill the registers.
void Wkv7HeadOfAvx2(const Wkv7Head& head) { Wkv7HeadVector<VectorAvx2, 2>(head); }

}  // namespace dreamstate::kernels
