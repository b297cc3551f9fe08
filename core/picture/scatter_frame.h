// Where the points of a scatter plot lie, for both of its forms.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "core/picture/palette.h"
#include "core/picture/scatter.h"

namespace dreamstate::picture {

enum class Marker { kCircle, kSquare, kDiamond, kTriangle };

struct GroupMark {
  Rgb colour;
  Marker marker;
};
GroupMark MarkOf(int group);

// INVALID_ARGUMENT when sizes do not fit together.
absl::Status Check(const Scatter& scatter);

bool IsShown(const ScatterPoint& point);

// How many points each group shows.
std::vector<int> GroupSizes(const Scatter& scatter);

// From the plane into a rectangle of pixels, y upwards.
class ScatterFrame {
 public:
  ScatterFrame(const Scatter& scatter, double left, double top, double width, double height);
  double X(double x) const;
  double Y(double y) const;

 private:
  double middle_x_, middle_y_;  // of the rectangle
  double x_ = 0, y_ = 0;        // the point there
  double unit_ = 1;             // of the plane, a pixel
};

}  // namespace dreamstate::picture
