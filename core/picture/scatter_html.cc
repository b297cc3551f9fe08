#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/picture/scatter.h"
#include "core/picture/scatter_frame.h"

namespace dreamstate::picture {
namespace {

constexpr double kRadius = 5;

constexpr char kStyle[] =
    "body{font:15px sans-serif;color:#202020;margin:24px}h1{font-size:22px;margin:0}"
    "p{margin:6px 0 14px;color:#555}svg{width:100%;max-height:85vh;border:1px solid #c8c8c8}"
    "svg text{font:14px sans-serif;fill:#555}input{display:none}"
    "label{display:inline-block;margin:0 14px 8px 0;cursor:pointer}"
    "label svg{width:12px;height:12px;border:0;margin-right:5px}"
    "path{stroke:#fff;stroke-width:1}.m path:hover{stroke:#000;stroke-width:3}";

// Text that is text wherever in HTML it stands. Control characters other than the line's end have
// no place there.
std::string Escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f ? ' ' : c;
    }
  }
  return result;
}

std::string ColourText(Rgb colour) {
  return absl::StrFormat("#%02x%02x%02x", colour.red, colour.green, colour.blue);
}

// The outline of a marker around (x, y).
std::string Outline(Marker marker, double x, double y) {
  const double r = kRadius;
  switch (marker) {
    case Marker::kCircle:
      return absl::StrFormat("M%.1f %.1fa%g %g 0 1 0 %g 0a%g %g 0 1 0 %g 0z", x - r, y, r, r, 2 * r,
                             r, r, -2 * r);
    case Marker::kSquare:
      return absl::StrFormat("M%.1f %.1fh%gv%gh%gz", x - r, y - r, 2 * r, 2 * r, -2 * r);
    case Marker::kDiamond:
      return absl::StrFormat("M%.1f %.1fl%g %gl%g %gl%g %gz", x, y - r - 1, r + 1, r + 1, -r - 1,
                             r + 1, -r - 1, -r - 1);
    case Marker::kTriangle:
      return absl::StrFormat("M%.1f %.1fl%g %gh%gz", x, y - r, r, 2 * r, -2 * r);
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> ToHtml(const Scatter& scatter) {
  DS_RETURN_IF_ERROR(Check(scatter));
  const std::vector<int> sizes = GroupSizes(scatter);
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  StrAppend(&page,
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
            "'unsafe-inline'\">\n<title>",
            Escaped(scatter.title), "</title>\n<style>\n", kStyle, "\n");
  for (size_t group = 0; group < sizes.size(); ++group) {
    const std::string colour = ColourText(MarkOf(static_cast<int>(group)).colour);
    StrAppend(&page, ".g", group, "{fill:", colour, "}#g", group, ":not(:checked)~svg .g", group,
              "{display:none}#g", group, ":not(:checked)~label[for=g", group, "]{opacity:.35}\n");
  }
  StrAppend(&page, "</style>\n</head>\n<body>\n<h1>", Escaped(scatter.title), "</h1>\n<p>",
            Escaped(scatter.subtitle), "</p>\n");
  for (size_t group = 0; group < sizes.size(); ++group) {
    StrAppend(&page, "<input type=\"checkbox\" id=\"g", group, "\" checked>\n");
  }
  for (size_t group = 0; group < sizes.size(); ++group) {
    StrAppend(&page, "<label for=\"g", group, "\"><svg viewBox=\"0 0 12 12\"><path class=\"g",
              group, "\" d=\"", Outline(MarkOf(static_cast<int>(group)).marker, 6, 6), "\"/></svg>",
              Escaped(scatter.groups[group]), " ", sizes[group], "</label>\n");
  }
  const int width = scatter.width, height = scatter.height;
  StrAppend(&page, "<svg class=\"m\" viewBox=\"0 0 ", width, " ", height, "\">\n<text x=\"",
            width / 2, "\" y=\"", height - 8, "\" text-anchor=\"middle\">", Escaped(scatter.x_axis),
            "</text>\n<text transform=\"translate(18 ", height / 2,
            ") rotate(-90)\" text-anchor=\"middle\">", Escaped(scatter.y_axis), "</text>\n");
  const ScatterFrame frame(scatter, 30, 0, width - 30, height - 30);
  for (const ScatterPoint& point : scatter.points) {
    if (!IsShown(point)) continue;
    StrAppend(&page, "<path class=\"g", point.group, "\" d=\"",
              Outline(MarkOf(point.group).marker, frame.X(point.x), frame.Y(point.y)), "\"><title>",
              Escaped(point.text), "</title></path>\n");
  }
  page += "</svg>\n</body>\n</html>\n";
  return page;
}

}  // namespace dreamstate::picture
