#include "kernels/runtime/vector_avx512.h"
#include "kernels/token_shift/token_shift_vector.h"

namespace dreamstate::kernels {

void TokenShiftRowOfAvx512(const TokenShiftRow& row) { TokenShiftVector<VectorAvx512>(row); }

}  // namespace dreamstate::kernels
