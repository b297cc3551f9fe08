// The loops of the limits, in files of their own because each needs an instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dreamstate::kernels {

// Reads `count` floats (a multiple of 128, aligned to 64 bytes) and returns a sum, so that nothing
// is left out.
float ReadAvx2(const float* data, size_t count);
float ReadAvx512(const float* data, size_t count);

// `steps` times twelve multiply-adds that do not depend on each other; returns a sum of them.
float MultiplyAddAvx2(int64_t steps);
float MultiplyAddAvx512(int64_t steps);
float MultiplyAddBf16(int64_t steps);
// vpmaddwd and vpaddd, and vpdpbusd.
float MultiplyAddPairsAvx2(int64_t steps);
float MultiplyAddPairsAvx512(int64_t steps);
float MultiplyAddInt8(int64_t steps);
// Two by two tiles of AMX, 16 x 16 sums of 64 int8 or 32 bf16 each.
float MultiplyAddTilesInt8(int64_t steps);
float MultiplyAddTilesBf16(int64_t steps);

inline constexpr int kChains = 12;

}  // namespace dreamstate::kernels
