#include "kernels/runtime/vector_avx2.h"
#include "kernels/token_shift/token_shift_vector.h"

namespace dreamstate::kernels {

void TokenShiftRowOfAvx2(const TokenShiftRow& row) { TokenShiftVector<VectorAvx2>(row); }

}  // namespace dreamstate::kernels
