// A matrix of numbers as a picture: a cell a number, its colour the value, with title, axes and a
// legend that says the range.
#pragma once

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "core/picture/image.h"
#include "core/picture/palette.h"

namespace dreamstate::picture {

struct HeatMap {
  std::string title, subtitle;        // printable ASCII; others appear as "?"
  std::string row_axis, column_axis;  // what the indices count: "layer", "head"
  int rows = 0, columns = 0;          // each in [1, 4096]
  std::span<const float> values;      // [rows][columns]
  Scale scale;
};

// At least 8 x 8 pixels a cell. INVALID_ARGUMENT when sizes and values do not fit together.
absl::StatusOr<Image> Draw(const HeatMap& map);

// "0.0213", "1.5", "320", "1.23e+06": three significant digits.
std::string ShowNumber(double value);

}  // namespace dreamstate::picture
