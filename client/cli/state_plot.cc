#include "client/cli/state_plot.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "client/cli/pen.h"
#include "core/picture/scatter_frame.h"

namespace dreamstate::cli {
namespace {

constexpr int kColumns = 78, kRows = 22;  // inside of the frame
constexpr int kLineColumns = 80;

char LetterOf(size_t group) {
  if (group < 26) return static_cast<char>('a' + group);
  if (group < 52) return static_cast<char>('A' + (group - 26));
  return '#';
}

// The group with most points in each cell that has any, by row and column.
std::map<std::pair<int, int>, int> GroupsOfCells(const picture::Scatter& scatter) {
  // A cell is twice as high as it is wide.
  const picture::ScatterFrame frame(scatter, 0, 0, kColumns, 2 * kRows);
  std::map<std::pair<int, int>, std::map<int, int>> counts;
  for (const picture::ScatterPoint& point : scatter.points) {
    if (!picture::IsShown(point)) continue;
    const int column = std::clamp(static_cast<int>(frame.X(point.x)), 0, kColumns - 1);
    const int row = std::clamp(static_cast<int>(frame.Y(point.y) / 2), 0, kRows - 1);
    ++counts[{row, column}][point.group];
  }
  std::map<std::pair<int, int>, int> groups;
  for (const auto& [cell, of_groups] : counts) {
    groups[cell] =
        std::max_element(of_groups.begin(), of_groups.end(), [](const auto& a, const auto& b) {
          return a.second < b.second;
        })->first;
  }
  return groups;
}

}  // namespace

std::vector<std::string> PlotLines(const picture::Scatter& scatter, bool colour, bool true_colour) {
  const Pen pen(true_colour);
  const std::map<std::pair<int, int>, int> groups = GroupsOfCells(scatter);
  const std::string edge = absl::StrCat("+", std::string(kColumns, '-'), "+");
  std::vector<std::string> lines = {edge};
  for (int row = 0; row < kRows; ++row) {
    std::string line = "|";
    for (int column = 0; column < kColumns; ++column) {
      const auto found = groups.find({row, column});
      if (found == groups.end()) {
        line += ' ';
        continue;
      }
      const std::string letter(1, LetterOf(static_cast<size_t>(found->second)));
      absl::StrAppend(&line, colour ? pen.Foreground(picture::MarkOf(found->second).colour) : "",
                      letter, colour ? kReset : "");
    }
    lines.push_back(line + "|");
  }
  lines.push_back(edge);
  return lines;
}

std::vector<std::string> PlotLegend(const picture::Scatter& scatter) {
  const std::vector<int> sizes = picture::GroupSizes(scatter);
  std::vector<std::string> lines;
  for (size_t group = 0; group < sizes.size(); ++group) {
    const std::string entry = absl::StrCat(std::string(1, LetterOf(group)), " ",
                                           scatter.groups[group], " ", sizes[group]);
    if (lines.empty() || lines.back().size() + 3 + entry.size() > kLineColumns) {
      lines.push_back(entry);
    } else {
      absl::StrAppend(&lines.back(), "   ", entry);
    }
  }
  return lines;
}

void Print(const picture::Scatter& scatter, Output& output) {
  for (const std::string& line : PlotLines(scatter, output.colour(), HasTrueColour())) {
    if (output.colour()) {
      output.Painted(line);
    } else {
      output.Line(line);
    }
  }
  for (const std::string& line : PlotLegend(scatter)) output.Line(line);
}

}  // namespace dreamstate::cli
