// bfloat16 as its 16 bits, and the two conversions, the same on every instruction set (round to
// nearest even; NaN stays NaN).
#pragma once

#include <cstdint>
#include <cstring>

namespace dreamstate::kernels {

using Bf16 = uint16_t;

inline float Bf16ToFloat(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline Bf16 FloatToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<Bf16>((bits >> 16) | 0x40u);
  return static_cast<Bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace dreamstate::kernels
