#include "core/tensors/from_float.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/strings.h"
#include "kernels/runtime/bf16.h"

namespace dreamstate::tensors {
namespace {

// `infinity` is the dtype's positive infinity, `sign` its sign bit.
template <typename Convert>
absl::Status Append16(std::span<const float> values, DType dtype, uint16_t infinity,
                      const Convert& convert, std::string* out) {
  const size_t start = out->size();
  out->resize(start + values.size() * sizeof(uint16_t));
  char* to = out->data() + start;
  for (const float value : values) {
    const uint16_t bits = convert(value);
    if ((bits & 0x7fff) == infinity && std::isfinite(value)) {
      out->resize(start);
      return absl::InvalidArgumentError(
          StrCat("expected values that ", DTypeName(dtype), " can hold, found ", value));
    }
    std::memcpy(to, &bits, sizeof bits);
    to += sizeof bits;
  }
  return absl::OkStatus();
}

}  // namespace

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x1ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520, half way to what the next exponent would hold
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Below 2^-14 halves are multiples of 2^-24, as the floats from 0.5 to 1 are.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
           std::bit_cast<uint32_t>(0.5f);
  } else {
    const uint32_t rebased = magnitude - (uint32_t{112} << 23);
    half = (rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

absl::Status AppendFromFloat(std::span<const float> values, DType dtype, std::string* out) {
  switch (dtype) {
    case DType::kF32:
      out->append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
      return absl::OkStatus();
    case DType::kBF16:
      return Append16(values, dtype, 0x7f80, kernels::FloatToBf16, out);
    case DType::kF16:
      return Append16(values, dtype, 0x7c00, FloatToHalf, out);
    default:
      return absl::InvalidArgumentError(
          StrCat("expected f32, bf16 or f16, found ", DTypeName(dtype)));
  }
}

}  // namespace dreamstate::tensors
