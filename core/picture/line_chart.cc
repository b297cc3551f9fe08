#include "core/picture/line_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/base/strings.h"
#include "core/picture/heat_map.h"

namespace dreamstate::picture {
namespace {

// Told apart by most colour-blind readers (Okabe and Ito).
constexpr Rgb kColours[] = {{0x00, 0x72, 0xb2}, {0xd5, 0x5e, 0x00}, {0x00, 0x9e, 0x73},
                            {0xcc, 0x79, 0xa7}, {0xe6, 0x9f, 0x00}, {0x56, 0xb4, 0xe9}};
constexpr Rgb kInk = {0x20, 0x20, 0x20};
constexpr Rgb kGrid = {0xe4, 0xe4, 0xe4};
constexpr int kText = 2;  // the font's enlargement
constexpr int kLeft = 90, kRight = 24, kTop = 44, kBottom = 62;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// The distance of about `count` round numbers over a range: 1, 2 or 5 times a power of ten.
double Step(const Range& range, int count) {
  const double raw = (range.high - range.low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw) return factor * power;
  }
  return 10.0 * power;
}

void Line(Image* image, double x0, double y0, double x1, double y1, Rgb colour) {
  const int steps = static_cast<int>(std::max(std::abs(x1 - x0), std::abs(y1 - y0))) + 1;
  for (int i = 0; i <= steps; ++i) {
    const double share = static_cast<double>(i) / steps;
    image->Fill(static_cast<int>(x0 + share * (x1 - x0)), static_cast<int>(y0 + share * (y1 - y0)),
                2, 2, colour);
  }
}

}  // namespace

absl::StatusOr<Image> Draw(const LineChart& chart) {
  if (chart.width < 320 || chart.height < 240 || chart.width > 16384 || chart.height > 16384 ||
      chart.series.size() > std::size(kColours)) {
    return absl::InvalidArgumentError(
        StrCat("line chart: expected 320 x 240 to 16384 x 16384 pixels "
               "and at most ",
               std::size(kColours), " series"));
  }
  Range x_range, y_range;
  for (const Series& series : chart.series) {
    if (series.x.size() != series.y.size()) {
      return absl::InvalidArgumentError(
          StrCat("line chart: series ", series.name, ": expected as many x as y"));
    }
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!std::isfinite(series.x[i]) || !std::isfinite(series.y[i])) continue;
      x_range.Add(series.x[i]);
      y_range.Add(series.y[i]);
    }
  }
  if (!(x_range.low <= x_range.high)) x_range = y_range = {.low = 0, .high = 1};
  for (Range* range : {&x_range, &y_range}) {
    if (range->high - range->low < 1e-12 * std::max(1.0, std::abs(range->high))) range->high += 1;
  }
  Image image(chart.width, chart.height);
  const int width = chart.width - kLeft - kRight, height = chart.height - kTop - kBottom;
  const auto at_x = [&](double x) {
    return kLeft + (x - x_range.low) / (x_range.high - x_range.low) * width;
  };
  const auto at_y = [&](double y) {
    return kTop + (y_range.high - y) / (y_range.high - y_range.low) * height;
  };
  image.Text(kLeft, 12, kText, chart.title, kInk);
  const double x_step = Step(x_range, 8), y_step = Step(y_range, 8);
  for (double x = std::ceil(x_range.low / x_step) * x_step; x <= x_range.high; x += x_step) {
    const int column = static_cast<int>(at_x(x));
    image.Fill(column, kTop, 1, height, kGrid);
    const std::string label = ShowNumber(std::abs(x) < x_step / 2 ? 0 : x);
    image.Text(column - TextWidth(kText, label) / 2, kTop + height + 8, kText, label, kInk);
  }
  for (double y = std::ceil(y_range.low / y_step) * y_step; y <= y_range.high; y += y_step) {
    const int row = static_cast<int>(at_y(y));
    image.Fill(kLeft, row, width, 1, kGrid);
    const std::string label = ShowNumber(std::abs(y) < y_step / 2 ? 0 : y);
    image.Text(kLeft - 8 - TextWidth(kText, label), row - TextHeight(kText) / 2, kText, label,
               kInk);
  }
  image.Fill(kLeft, kTop, 1, height, kInk);
  image.Fill(kLeft, kTop + height, width, 1, kInk);
  image.Text(kLeft + (width - TextWidth(kText, chart.x_axis)) / 2, chart.height - 26, kText,
             chart.x_axis, kInk);
  image.TextUpwards(10, kTop + (height + TextWidth(kText, chart.y_axis)) / 2, kText, chart.y_axis,
                    kInk);
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const Series& series = chart.series[s];
    bool has_last = false;
    double last_x = 0, last_y = 0;
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!std::isfinite(series.x[i]) || !std::isfinite(series.y[i])) continue;
      const double x = at_x(series.x[i]), y = at_y(series.y[i]);
      if (has_last) Line(&image, last_x, last_y, x, y, kColours[s]);
      if (series.markers) {
        image.Fill(static_cast<int>(x) - 3, static_cast<int>(y) - 3, 7, 7, kColours[s]);
      }
      has_last = true;
      last_x = x;
      last_y = y;
    }
    const int row = kTop + 10 + static_cast<int>(s) * (TextHeight(kText) + 8);
    const int column = kLeft + width - TextWidth(kText, series.name) - 40;
    image.Fill(column, row + TextHeight(kText) / 2 - 1, 24, 3, kColours[s]);
    image.Text(column + 32, row, kText, series.name, kInk);
  }
  return image;
}

}  // namespace dreamstate::picture
