#include "client/cli/heat_map.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/files.h"
#include "client/cli/pen.h"
#include "core/picture/heat_map.h"
#include "core/picture/png.h"

namespace dreamstate::cli {
namespace {

using picture::Rgb;
using picture::Scale;
using picture::Viridis;

constexpr int kLabelWidth = 5;  // "  12 "
constexpr int kMapWidth = 75;   // what is left of 80 columns
constexpr int kNumberWidth = 6, kCellWidth = 2;

// At most five characters.
std::string ShortNumber(float value) {
  const float size = std::fabs(value);
  if (!std::isfinite(value)) return "-";
  if (size == 0) return "0";
  if (size < 0.001f || size >= 99999.5f) return absl::StrFormat("%.0e", value);
  const int decimals = size < 9.9995f ? 3 : size < 99.995f ? 2 : size < 999.95f ? 1 : 0;
  return absl::StrFormat("%.*f", decimals, value);
}

// Draws the heads from `first` to `last` (not included).
class Band {
 public:
  Band(const HeadMap& map, const Scale& scale, int first, int last)
      : map_(map), scale_(scale), first_(first), last_(last) {}

  // The indices of heads above their cells; every `step`-th.
  std::string Header(int cell_width, int step) const {
    std::string line(kLabelWidth, ' ');
    for (int head = first_; head < last_; head += step) {
      const std::string label = absl::StrCat(head);
      const size_t at = kLabelWidth + static_cast<size_t>((head - first_) * cell_width);
      // Numbers stand to the right of their cells, marks at their left.
      const size_t begin = cell_width == kNumberWidth ? at + kNumberWidth - label.size() : at;
      line.resize(begin, ' ');
      line += label;
    }
    return line;
  }

  std::string Numbers(int layer, const Pen* pen) const {
    std::string line = Label(layer);
    for (int head = first_; head < last_; ++head) {
      const float value = At(layer, head);
      const std::string number = absl::StrFormat("%*s", kNumberWidth, ShortNumber(value));
      if (pen == nullptr) {
        line += number;
        continue;
      }
      const double position = scale_.PositionOf(value);
      const Rgb ink = position < 0.55 ? Rgb{255, 255, 255} : Rgb{0, 0, 0};
      absl::StrAppend(&line, pen->Background(Viridis(position)), pen->Foreground(ink), number);
    }
    return pen == nullptr ? line : line + kReset;
  }

  std::string Cells(int layer, const Pen& pen) const {
    std::string line = Label(layer);
    for (int head = first_; head < last_; ++head)
      absl::StrAppend(&line, pen.Background(ColourOf(layer, head)), std::string(kCellWidth, ' '));
    return line + kReset;
  }

  // `layer` and the one below it.
  std::string HalfBlocks(int layer, const Pen& pen) const {
    std::string line = Label(layer);
    for (int head = first_; head < last_; ++head) {
      absl::StrAppend(&line, pen.Foreground(ColourOf(layer, head)),
                      layer + 1 < map_.layers ? pen.Background(ColourOf(layer + 1, head))
                                              : std::string("\033[49m"),
                      "\u2580");
    }
    return line + kReset;
  }

  std::string Digits(int layer, int cell_width) const {
    std::string line = Label(layer);
    for (int head = first_; head < last_; ++head) {
      const double position = scale_.PositionOf(At(layer, head));
      const char digit =
          std::isnan(position)
              ? '-'
              : static_cast<char>('0' + std::min(9, static_cast<int>(position * 10)));
      line += digit;
      if (head + 1 < last_) line.append(static_cast<size_t>(cell_width) - 1, ' ');
    }
    return line;
  }

 private:
  static std::string Label(int layer) { return absl::StrFormat("%4d ", layer); }
  float At(int layer, int head) const {
    return map_.values[static_cast<size_t>(layer) * map_.heads + head];
  }
  Rgb ColourOf(int layer, int head) const { return Viridis(scale_.PositionOf(At(layer, head))); }

  const HeadMap& map_;
  const Scale& scale_;
  const int first_, last_;
};

// What colours or digits mean.
std::string Legend(const Scale& scale, const Pen* pen) {
  constexpr int kSteps = 24;
  const std::string low = picture::ShowNumber(scale.low), high = picture::ShowNumber(scale.high);
  const std::string ending = scale.logarithmic ? "  (logarithmic)" : "";
  if (pen == nullptr) return absl::StrCat("     0 = ", low, " to 9 = ", high, ending);
  std::string line = absl::StrCat("     ", low, " ");
  for (int i = 0; i < kSteps; ++i)
    absl::StrAppend(&line, pen->Background(Viridis(i / (kSteps - 1.0))), " ");
  return absl::StrCat(line, kReset, " ", high, ending);
}

}  // namespace

std::vector<std::string> DrawLines(const HeadMap& map, bool colour, bool true_colour) {
  const Scale scale = Scale::Of(map.values);
  const Pen some_pen(true_colour);
  const Pen* const pen = colour ? &some_pen : nullptr;
  const bool numbers = map.heads * kNumberWidth <= kMapWidth;
  const bool cells = map.heads * kCellWidth <= kMapWidth;
  const int width = numbers ? kNumberWidth : cells ? kCellWidth : 1;
  const int step = numbers ? 1 : cells ? 2 : 4;
  std::vector<std::string> lines = {absl::StrCat(map.title, ": layers down, heads across")};
  const int a_band = kMapWidth / width;
  for (int first = 0; first < map.heads; first += a_band) {
    const Band band(map, scale, first, std::min(first + a_band, map.heads));
    lines.push_back(band.Header(width, step));
    for (int layer = 0; layer < map.layers; ++layer) {
      if (numbers) {
        lines.push_back(band.Numbers(layer, pen));
      } else if (pen == nullptr) {
        lines.push_back(band.Digits(layer, width));
      } else if (cells) {
        lines.push_back(band.Cells(layer, *pen));
      } else {
        lines.push_back(band.HalfBlocks(layer++, *pen));
      }
    }
  }
  if (pen != nullptr || !numbers) lines.push_back(Legend(scale, pen));
  return lines;
}

void Print(const HeadMap& map, Output& output) {
  for (const std::string& line : DrawLines(map, output.colour(), HasTrueColour())) {
    if (output.colour()) {
      output.Painted(line);
    } else {
      output.Line(line);
    }
  }
}

void PngArguments::AddTo(CLI::App& command) {
  CLI::Option* const png =
      command.add_option("--png", file, "Also draw the map into this file")->type_name("FILE");
  command.add_flag("--force", replace, "Replace the file when there is one")->needs(png);
}

absl::Status PngArguments::Check() const {
  return file.empty() ? absl::OkStatus() : CheckWritable(file, replace);
}

absl::Status PngArguments::Write(const HeadMap& map, Output& output) const {
  if (file.empty()) return absl::OkStatus();
  picture::HeatMap drawing;
  drawing.title = map.title;
  drawing.subtitle = map.subtitle;
  drawing.row_axis = "layer";
  drawing.column_axis = "head";
  drawing.rows = map.layers;
  drawing.columns = map.heads;
  drawing.values = map.values;
  drawing.scale = Scale::Of(map.values);
  const absl::StatusOr<picture::Image> image = picture::Draw(drawing);
  if (!image.ok()) return image.status();
  const absl::StatusOr<std::string> bytes = picture::EncodePng(*image);
  if (!bytes.ok()) return bytes.status();
  if (absl::Status status = WriteFile(file, replace, *bytes); !status.ok()) return status;
  output.Note(
      absl::StrCat("wrote ", file, ", ", image->width(), " x ", image->height(), " pixels"));
  return absl::OkStatus();
}

absl::Status CheckSizes(int layers, int heads, int values) {
  constexpr int kMost = 4096;
  if (layers >= 1 && heads >= 1 && layers <= kMost && heads <= kMost && layers * heads == values) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("the server sent ", values, " matrices of ", layers,
                                          " layers with ", heads, " heads"));
}

}  // namespace dreamstate::cli
