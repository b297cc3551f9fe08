#include "core/picture/scatter.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/picture/scatter_frame.h"

namespace dreamstate::picture {
namespace {

constexpr Rgb kInk = {0x20, 0x20, 0x20};
constexpr Rgb kEdge = {0xc8, 0xc8, 0xc8};
constexpr Rgb kHalo = {0xff, 0xff, 0xff};
constexpr int kTitle = 3, kText = 2;  // sizes of the font
constexpr int kMargin = 24, kGap = 10;
constexpr int kRadius = 5;  // of a point

// Whether a marker of `radius` covers the pixel that lies so far from its centre.
bool Covers(Marker marker, int radius, int dx, int dy) {
  switch (marker) {
    case Marker::kCircle:
      return dx * dx + dy * dy <= radius * radius + radius / 2;
    case Marker::kSquare:
      return std::max(std::abs(dx), std::abs(dy)) < radius;
    case Marker::kDiamond:
      return std::abs(dx) + std::abs(dy) <= radius + 1;
    case Marker::kTriangle:
      return dy >= -radius && dy < radius && 2 * std::abs(dx) <= dy + radius + 1;
  }
  return false;
}

void DrawMarker(Image& image, int x, int y, const GroupMark& mark) {
  // The rim keeps points apart that lie on each other.
  for (const auto& [radius, colour] :
       {std::pair{kRadius + 1, kHalo}, std::pair{kRadius, mark.colour}}) {
    for (int dy = -radius - 1; dy <= radius + 1; ++dy) {
      for (int dx = -radius - 1; dx <= radius + 1; ++dx) {
        if (Covers(mark.marker, radius, dx, dy)) image.Fill(x + dx, y + dy, 1, 1, colour);
      }
    }
  }
}

// As much of the text as fits, with "..." where something is left out.
std::string Fitted(const std::string& text, int width) {
  if (TextWidth(kText, text) <= width) return text;
  std::string cut = text;
  while (!cut.empty() && TextWidth(kText, cut + "...") > width) cut.pop_back();
  return cut + "...";
}

class Legend {
 public:
  explicit Legend(const Scatter& scatter) : scatter_(scatter), sizes_(GroupSizes(scatter)) {}

  int width() const {
    int widest = 0;
    for (size_t group = 0; group < sizes_.size(); ++group) {
      widest = std::max(widest, TextWidth(kText, Row(group)));
    }
    return kIndent + std::min(widest, scatter_.width / 3);
  }

  void DrawAt(Image& image, int left, int top, int bottom) const {
    const int row = TextHeight(kText) + kGap;
    const size_t room = static_cast<size_t>(std::max(1, (bottom - top) / row));
    const size_t shown = sizes_.size() <= room ? sizes_.size() : room - 1;
    for (size_t group = 0; group < shown; ++group) {
      const int y = top + static_cast<int>(group) * row;
      DrawMarker(image, left + kRadius, y + TextHeight(kText) / 2, MarkOf(static_cast<int>(group)));
      image.Text(left + kIndent, y, kText, Fitted(Row(group), width() - kIndent), kInk);
    }
    if (shown < sizes_.size()) {
      image.Text(left + kIndent, top + static_cast<int>(shown) * row, kText,
                 StrCat("and ", sizes_.size() - shown, " more"), kInk);
    }
  }

 private:
  static constexpr int kIndent = 2 * kRadius + kGap;
  std::string Row(size_t group) const { return StrCat(scatter_.groups[group], " ", sizes_[group]); }

  const Scatter& scatter_;
  const std::vector<int> sizes_;
};

}  // namespace

absl::StatusOr<Image> Draw(const Scatter& scatter) {
  DS_RETURN_IF_ERROR(Check(scatter));
  Image image(scatter.width, scatter.height);
  const Legend legend(scatter);
  const int text = TextHeight(kText);
  const int left = kMargin + text + kGap;
  const int top = kMargin + TextHeight(kTitle) + kGap + text + 2 * kGap;
  const int legend_left = scatter.width - kMargin - legend.width();
  const int right = legend_left - kMargin;
  const int bottom = scatter.height - kMargin - text - kGap;
  image.Text(kMargin, kMargin, kTitle, scatter.title, kInk);
  image.Text(kMargin, kMargin + TextHeight(kTitle) + kGap, kText, scatter.subtitle, kInk);
  image.Fill(left, top, right - left, 1, kEdge);
  image.Fill(left, bottom, right - left + 1, 1, kEdge);
  image.Fill(left, top, 1, bottom - top, kEdge);
  image.Fill(right, top, 1, bottom - top, kEdge);
  image.Text(left + (right - left - TextWidth(kText, scatter.x_axis)) / 2, bottom + kGap, kText,
             scatter.x_axis, kInk);
  image.TextUpwards(kMargin, top + (bottom - top + TextWidth(kText, scatter.y_axis)) / 2, kText,
                    scatter.y_axis, kInk);
  const ScatterFrame frame(scatter, left, top, right - left, bottom - top);
  for (const ScatterPoint& point : scatter.points) {
    if (!IsShown(point)) continue;
    DrawMarker(image, static_cast<int>(std::lround(frame.X(point.x))),
               static_cast<int>(std::lround(frame.Y(point.y))), MarkOf(point.group));
  }
  legend.DrawAt(image, legend_left, top, bottom);
  return image;
}

}  // namespace dreamstate::picture
