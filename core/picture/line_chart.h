// Curves over a common horizontal axis: title, axes with round numbers, a legend.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/picture/image.h"

namespace dreamstate::picture {

struct Series {
  std::string name;
  std::vector<double> x, y;  // equally many; points that are not finite are left out
  bool markers = false;      // a square a point, for few points
};

struct LineChart {
  std::string title, x_axis, y_axis;  // printable ASCII
  std::vector<Series> series;         // at most as many as there are colours (6)
  int width = 960, height = 540;      // pixels, at least 320 x 240
};

// INVALID_ARGUMENT when sizes do not fit together. A chart without a point is empty axes.
absl::StatusOr<Image> Draw(const LineChart& chart);

}  // namespace dreamstate::picture
