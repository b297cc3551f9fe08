#include "core/picture/heat_map.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "absl/strings/str_format.h"
#include "core/base/strings.h"

namespace dreamstate::picture {
namespace {

constexpr int kMaxCells = 4096;                   // a side
constexpr int kMapWidth = 640, kMapHeight = 560;  // pixels that a map fills where its cells allow
constexpr int kSmallestCell = 8, kWidestCell = 64, kTallestCell = 40;
constexpr int kGridFrom = 12;  // cells of this many pixels are parted by a white line
constexpr int kMargin = 24, kGap = 10;
constexpr int kTitle = 3, kText = 2;  // sizes of the font
constexpr int kLegendWidth = 20, kLegendHeight = 160;
constexpr Rgb kInk = {0x20, 0x20, 0x20};

// Where everything goes, in pixels.
struct Layout {
  int cell_width, cell_height;
  int map_left, map_top, map_width, map_height;
  int legend_left, legend_height;
  int width, height;
};

// Every how many indices one is written, so that they do not touch.
int LabelStep(int cell, int label) {
  int step = 1;
  while (step * cell < label) step *= 2;
  return step;
}

std::string IndexText(int index) { return StrCat(index); }

Layout LayOut(const HeatMap& map) {
  Layout at;
  at.cell_width = std::clamp(kMapWidth / map.columns, kSmallestCell, kWidestCell);
  at.cell_height = std::clamp(kMapHeight / map.rows, kSmallestCell, kTallestCell);
  at.map_width = at.cell_width * map.columns;
  at.map_height = at.cell_height * map.rows;
  const int row_labels = TextWidth(kText, IndexText(map.rows - 1));
  at.map_left = kMargin + TextHeight(kText) + kGap + row_labels + kGap;
  at.map_top = kMargin + TextHeight(kTitle) + kGap + TextHeight(kText) + 2 * kGap;
  at.legend_left = at.map_left + at.map_width + kMargin;
  at.legend_height = std::max(at.map_height, kLegendHeight);
  int legend_text = 0;
  for (const double position : {0.0, 0.5, 1.0}) {
    legend_text = std::max(legend_text, TextWidth(kText, ShowNumber(map.scale.ValueAt(position))));
  }
  const int text = std::max(TextWidth(kTitle, map.title), TextWidth(kText, map.subtitle));
  at.width = kMargin + std::max(at.legend_left + kLegendWidth + kGap + legend_text, kMargin + text);
  at.height = at.map_top + at.legend_height + 2 * (kGap + TextHeight(kText)) + kMargin;
  return at;
}

void DrawCells(const HeatMap& map, const Layout& at, Image& image) {
  const int gap_x = at.cell_width >= kGridFrom ? 1 : 0;
  const int gap_y = at.cell_height >= kGridFrom ? 1 : 0;
  for (int row = 0; row < map.rows; ++row) {
    for (int column = 0; column < map.columns; ++column) {
      const float value = map.values[static_cast<size_t>(row) * map.columns + column];
      image.Fill(at.map_left + column * at.cell_width, at.map_top + row * at.cell_height,
                 at.cell_width - gap_x, at.cell_height - gap_y,
                 Viridis(map.scale.PositionOf(value)));
    }
  }
}

void DrawAxes(const HeatMap& map, const Layout& at, Image& image) {
  const int text_height = TextHeight(kText);
  const int row_step = LabelStep(at.cell_height, text_height + 6);
  for (int row = 0; row < map.rows; row += row_step) {
    const std::string label = IndexText(row);
    const int middle = at.map_top + row * at.cell_height + at.cell_height / 2;
    image.Text(at.map_left - kGap - TextWidth(kText, label), middle - text_height / 2, kText, label,
               kInk);
  }
  const int below = at.map_top + at.map_height + kGap;
  const int column_step =
      LabelStep(at.cell_width, TextWidth(kText, IndexText(map.columns - 1)) + kGap);
  for (int column = 0; column < map.columns; column += column_step) {
    const std::string label = IndexText(column);
    const int middle = at.map_left + column * at.cell_width + at.cell_width / 2;
    image.Text(middle - TextWidth(kText, label) / 2, below, kText, label, kInk);
  }
  image.Text(at.map_left + (at.map_width - TextWidth(kText, map.column_axis)) / 2,
             below + text_height + kGap, kText, map.column_axis, kInk);
  image.TextUpwards(kMargin, at.map_top + (at.map_height + TextWidth(kText, map.row_axis)) / 2,
                    kText, map.row_axis, kInk);
}

void DrawLegend(const HeatMap& map, const Layout& at, Image& image) {
  for (int y = 0; y < at.legend_height; ++y) {
    const double position = 1 - (y + 0.5) / at.legend_height;
    image.Fill(at.legend_left, at.map_top + y, kLegendWidth, 1, Viridis(position));
  }
  const int text_left = at.legend_left + kLegendWidth + kGap;
  const int text_height = TextHeight(kText);
  const auto label = [&](double position, int y) {
    image.Text(text_left, y, kText, ShowNumber(map.scale.ValueAt(position)), kInk);
  };
  const int bottom = at.map_top + at.legend_height;
  label(1, at.map_top);
  if (map.scale.low < map.scale.high) {
    label(0.5, at.map_top + (at.legend_height - text_height) / 2);
    label(0, bottom - text_height);
  }
  if (map.scale.logarithmic) image.Text(at.legend_left, bottom + kGap, kText, "log", kInk);
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(map.values.begin(), map.values.end(), finite)) {
    const int y = bottom + kGap + text_height + kGap;
    image.Fill(at.legend_left, y, text_height, text_height, kNoValue);
    image.Text(at.legend_left + text_height + kGap / 2, y, kText, "none", kInk);
  }
}

}  // namespace

absl::StatusOr<Image> Draw(const HeatMap& map) {
  if (map.rows < 1 || map.columns < 1 || map.rows > kMaxCells || map.columns > kMaxCells) {
    return absl::InvalidArgumentError(StrCat("heat map: expected 1 to ", kMaxCells,
                                             " rows and columns, found ", map.rows, " x ",
                                             map.columns));
  }
  const size_t cells = static_cast<size_t>(map.rows) * static_cast<size_t>(map.columns);
  if (map.values.size() != cells) {
    return absl::InvalidArgumentError(StrCat("heat map: expected ", cells, " values for ", map.rows,
                                             " x ", map.columns, ", found ", map.values.size()));
  }
  const Layout at = LayOut(map);
  Image image(at.width, at.height);
  image.Text(kMargin, kMargin, kTitle, map.title, kInk);
  image.Text(kMargin, kMargin + TextHeight(kTitle) + kGap, kText, map.subtitle, kInk);
  DrawCells(map, at, image);
  DrawAxes(map, at, image);
  DrawLegend(map, at, image);
  return image;
}

std::string ShowNumber(double value) { return absl::StrFormat("%.3g", value); }

}  // namespace dreamstate::picture
