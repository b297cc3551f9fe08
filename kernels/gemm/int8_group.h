// Groups of int8: what packing, conversion of rows and the kernels agree on.
#pragma once

#include <cstdint>

#include "kernels/gemm/gemm.h"

namespace dreamstate::kernels {

// In front of the activations of a group. 64 bytes, so that what follows is aligned.
struct alignas(64) Int8RowHead {
  float scale;
  // -128 * sum of q: where sums begin, because the weights are stored as q + 128.
  int32_t start;
};

inline constexpr int kInt8Steps = kInt8Group / 4;

// The bits of the largest magnitude of a group decide its scale. As whole numbers magnitudes are in
// order, infinities and NaN last, so that no vector's idea of a maximum with NaN matters.
inline constexpr uint32_t kInt8NotFinite = 0x7f800000u;
// Below this (1e-35) a group counts as zeros: 127 over it would not be finite.
inline constexpr uint32_t kInt8Least = 0x0554ad2eu;

}  // namespace dreamstate::kernels
