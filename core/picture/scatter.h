// Points of a plane in groups, as a picture and as a page that says what each point is. Both axes
// have the same scale, so that distances are what they look like.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/picture/image.h"

namespace dreamstate::picture {

struct ScatterPoint {
  double x = 0, y = 0;  // points that are not finite are left out
  int group = 0;        // index of Scatter::groups
  std::string text;     // what it is, lines of UTF-8; for the page only
};

struct Scatter {
  std::string title, subtitle;      // of the image printable ASCII; others appear as "?"
  std::string x_axis, y_axis;       // what the directions are
  std::vector<std::string> groups;  // their names, 1 to 4096
  std::vector<ScatterPoint> points;
  int width = 960, height = 720;  // pixels, 320 x 240 to 16384 x 16384
};

// A group has a colour and, from the ninth on, a shape of its own; there are 32 of these together.
// The legend names as many groups as have room. INVALID_ARGUMENT when sizes do not fit together.
absl::StatusOr<Image> Draw(const Scatter& scatter);

// A page of HTML with an inline SVG: no script, nothing from elsewhere. The text of a point appears
// where the pointer rests on it, and every group can be hidden. All texts are escaped.
absl::StatusOr<std::string> ToHtml(const Scatter& scatter);

}  // namespace dreamstate::picture
