#include "kernels/token_shift/token_shift_reference.h"

#include "kernels/token_shift/token_shift_isa.h"

namespace dreamstate::kernels {

void TokenShiftRowOfReference(const TokenShiftRow& row) {
  for (int m = 0; m < row.mix_count; ++m) {
    TokenShiftReference<float>(row.previous, row.current, row.mixes[m], 1, row.width,
                               row.out[m] + row.offset);
  }
}

}  // namespace dreamstate::kernels
