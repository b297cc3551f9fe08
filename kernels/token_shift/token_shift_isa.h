// What each instruction set implements of the token shift; token_shift.cc chooses.
#pragma once

#include <cstdint>

namespace dreamstate::kernels {

// One token: out_m[i] = current[i] + (previous[i] - current[i]) * mix_m[i], with out_m = out[m] +
// offset.
struct TokenShiftRow {
  int width;
  int mix_count;
  const float* previous;
  const float* current;
  const float* const* mixes;
  float* const* out;
  int64_t offset;
};

void TokenShiftRowOfReference(const TokenShiftRow& row);
void TokenShiftRowOfAvx2(const TokenShiftRow& row);
void TokenShiftRowOfAvx512(const TokenShiftRow& row);

}  // namespace dreamstate::kernels
