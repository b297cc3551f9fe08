// fp32 values as bytes of another dtype: the inverse of ToFloat (tensor_set.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// The nearest f16, ties to even; what is too large becomes infinite, NaN stays NaN.
uint16_t FloatToHalf(float value);

// Appends `values` as f32, bf16 or f16 (little-endian, rounded to nearest even). INVALID_ARGUMENT
// for another dtype, or naming the first finite value that would become infinite.
absl::Status AppendFromFloat(std::span<const float> values, DType dtype, std::string* out);

}  // namespace dreamstate::tensors
