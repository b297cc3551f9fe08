// Random numbers that depend only on what they are keyed by: Philox4x32-10 (Salmon et al., SC
// 2011). The same key and counter give the same draw in any batch and after any restart.
#pragma once

#include <array>
#include <cstdint>

namespace dreamstate {

// One block of 128 random bits.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1) with 53 bits, for token `position` of branch `branch` of a decode with `seed`.
double DecodeUniform(uint64_t seed, uint32_t branch, uint64_t position);

// 64 bits from the operating system, for seeds and ids.
uint64_t EntropyBits();

}  // namespace dreamstate
