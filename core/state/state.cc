#include "core/state/state.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::state {
namespace {

constexpr double kMaxElements = 0x1p40;

// Index of the first value that is NaN or infinite, or -1. A block at a time, so that the loop can
// be vectorised.
int64_t FirstNotFinite(const std::vector<float>& values) {
  constexpr size_t kBlock = 1024;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const size_t end = std::min(values.size(), begin + kBlock);
    bool finite = true;
    for (size_t i = begin; i < end; ++i)
      finite &= std::fabs(values[i]) <= std::numeric_limits<float>::max();
    if (finite) continue;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isfinite(values[i])) return static_cast<int64_t>(i);
    }
  }
  return -1;
}

absl::Status CheckSize(std::string_view field, size_t found, int64_t expected) {
  if (found == static_cast<size_t>(expected)) return absl::OkStatus();
  return FieldError(field, StrCat("expected ", expected, " values, found ", found));
}

}  // namespace

Shape Shape::Of(const rwkv::Config& config) {
  return {config.layers, config.width, config.heads, config.head_size};
}

absl::Status Shape::Validate() const {
  if (layers <= 0 || width <= 0 || heads <= 0 || head_size <= 0) {
    return FieldError("shape", StrCat("expected positive sizes, found ", layers, " layers, width ",
                                      width, ", ", heads, " heads of ", head_size));
  }
  if (int64_t{heads} * head_size != width) {
    return FieldError("shape", StrCat("expected heads * head_size = width, found ", heads, " * ",
                                      head_size, " and ", width));
  }
  // In floating point, since the product of hostile sizes overflows any integer.
  const double elements = static_cast<double>(layers) * width * (2.0 + head_size);
  if (elements > kMaxElements) {
    return FieldError(
        "shape", StrCat("expected at most 2^40 values, found ", layers, " layers, width ", width,
                        ", ", heads, " heads of ", head_size));
  }
  return absl::OkStatus();
}

State State::Empty(const Shape& shape) {
  return {shape, std::vector<float>(static_cast<size_t>(shape.shift_elements())),
          std::vector<float>(static_cast<size_t>(shape.wkv_elements()))};
}

absl::Status State::Validate() const {
  DS_RETURN_IF_ERROR(shape.Validate());
  DS_RETURN_IF_ERROR(CheckSize("shift", shift.size(), shape.shift_elements()));
  DS_RETURN_IF_ERROR(CheckSize("wkv", wkv.size(), shape.wkv_elements()));
  if (const int64_t at = FirstNotFinite(shift); at >= 0) {
    const int64_t row = at / shape.width;
    return FieldError("shift", StrCat("layer ", row / 2, ", ", row % 2 == 0 ? "time" : "channel",
                                      " mix, channel ", at % shape.width, " is ",
                                      shift[static_cast<size_t>(at)]));
  }
  if (const int64_t at = FirstNotFinite(wkv); at >= 0) {
    const int64_t n = shape.head_size;
    const int64_t head = at / (n * n);
    return FieldError(
        "wkv", StrCat("layer ", head / shape.heads, ", head ", head % shape.heads, ", value ",
                      at / n % n, ", key ", at % n, " is ", wkv[static_cast<size_t>(at)]));
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::state
