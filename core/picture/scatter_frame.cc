#include "core/picture/scatter_frame.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/base/strings.h"

namespace dreamstate::picture {
namespace {

// Told apart by most colour-blind readers (Okabe and Ito; their yellow and black are not seen well
// on white and beside ink, brown and olive take their places).
constexpr Rgb kColours[] = {{0x00, 0x72, 0xb2}, {0xd5, 0x5e, 0x00}, {0x00, 0x9e, 0x73},
                            {0xcc, 0x79, 0xa7}, {0xe6, 0x9f, 0x00}, {0x56, 0xb4, 0xe9},
                            {0x7a, 0x3e, 0x1d}, {0x80, 0x80, 0x00}};
constexpr Marker kMarkers[] = {Marker::kCircle, Marker::kSquare, Marker::kDiamond,
                               Marker::kTriangle};
constexpr int kMostGroups = 4096;
constexpr double kRim = 0.04;  // of the rectangle, so that no point lies on its edge

struct Range {
  double low = 0, high = 0;
  double middle() const { return low / 2 + high / 2; }
};

// Of one coordinate, halved so that no width is infinite.
template <typename Coordinate>
Range HalfRange(const Scatter& scatter, const Coordinate& coordinate) {
  Range range;
  bool first = true;
  for (const ScatterPoint& point : scatter.points) {
    if (!IsShown(point)) continue;
    const double value = coordinate(point) / 2;
    range.low = first ? value : std::min(range.low, value);
    range.high = first ? value : std::max(range.high, value);
    first = false;
  }
  return range;
}

}  // namespace

GroupMark MarkOf(int group) {
  constexpr int kKinds = static_cast<int>(std::size(kColours));
  return {kColours[group % kKinds],
          kMarkers[group / kKinds % static_cast<int>(std::size(kMarkers))]};
}

absl::Status Check(const Scatter& scatter) {
  if (scatter.width < 320 || scatter.height < 240 || scatter.width > 16384 ||
      scatter.height > 16384) {
    return absl::InvalidArgumentError(
        StrCat("scatter plot: expected 320 x 240 to 16384 x 16384 pixels, found ", scatter.width,
               " x ", scatter.height));
  }
  if (scatter.groups.empty() || scatter.groups.size() > kMostGroups) {
    return absl::InvalidArgumentError(StrCat("scatter plot: expected 1 to ", kMostGroups,
                                             " groups, found ", scatter.groups.size()));
  }
  for (const ScatterPoint& point : scatter.points) {
    if (point.group < 0 || static_cast<size_t>(point.group) >= scatter.groups.size()) {
      return absl::InvalidArgumentError(StrCat("scatter plot: expected a group below ",
                                               scatter.groups.size(), ", found ", point.group));
    }
  }
  return absl::OkStatus();
}

bool IsShown(const ScatterPoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

std::vector<int> GroupSizes(const Scatter& scatter) {
  std::vector<int> sizes(scatter.groups.size());
  for (const ScatterPoint& point : scatter.points) {
    if (IsShown(point)) ++sizes[static_cast<size_t>(point.group)];
  }
  return sizes;
}

ScatterFrame::ScatterFrame(const Scatter& scatter, double left, double top, double width,
                           double height)
    : middle_x_(left + width / 2), middle_y_(top + height / 2) {
  const Range x = HalfRange(scatter, [](const ScatterPoint& point) { return point.x; });
  const Range y = HalfRange(scatter, [](const ScatterPoint& point) { return point.y; });
  x_ = 2 * x.middle();
  y_ = 2 * y.middle();
  const double room = 1 - 2 * kRim;
  unit_ = 2 * std::max((x.high - x.low) / (width * room), (y.high - y.low) / (height * room));
  if (!(unit_ > 0)) unit_ = 1;  // one point, or all at one place
}

double ScatterFrame::X(double x) const { return middle_x_ + (x / unit_ - x_ / unit_); }
double ScatterFrame::Y(double y) const { return middle_y_ - (y / unit_ - y_ / unit_); }

}  // namespace dreamstate::picture
