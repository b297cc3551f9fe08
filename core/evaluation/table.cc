#include "core/evaluation/table.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "core/base/strings.h"

namespace dreamstate::evaluation {
namespace {

std::string Aligned(const std::string& cell, size_t width, bool left) {
  const std::string space(width - std::min(width, cell.size()), ' ');
  return left ? cell + space : space + cell;
}

}  // namespace

std::string Table::ToText() const {
  std::vector<size_t> widths;
  for (const std::string& column : columns) widths.push_back(column.size());
  for (const std::vector<std::string>& row : rows) {
    if (row.size() == 1) continue;
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  const auto line = [&widths](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      StrAppend(&text, i == 0 ? "" : "  ", Aligned(cells[i], widths[i], i == 0));
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text = StrCat(title, "\n", line(columns));
  for (const std::vector<std::string>& row : rows) {
    text += row.size() == 1 ? StrCat("- ", row.front(), "\n") : line(row);
  }
  for (const std::string& note : notes) StrAppend(&text, note, "\n");
  return text;
}

std::string Table::ToMarkdown() const {
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const std::string& cell : cells) StrAppend(&text, " ", cell, " |");
    return text + "\n";
  };
  std::string text = StrCat(title, "\n\n", line(columns), "|");
  for (size_t i = 0; i < columns.size(); ++i) text += i == 0 ? "---|" : "---:|";
  text += "\n";
  for (const std::vector<std::string>& row : rows) {
    if (row.size() > 1) {
      text += line(row);
      continue;
    }
    std::vector<std::string> heading(columns.size());
    heading.front() = StrCat("*", row.front(), "*");
    text += line(heading);
  }
  if (!notes.empty()) text += "\n";
  for (const std::string& note : notes) StrAppend(&text, note, "\n");
  return text;
}

std::string ShowBits(double value) { return absl::StrFormat("%.3f", value); }
std::string ShowSigned(double value) { return absl::StrFormat("%+.4f", value); }
std::string ShowInterval(const Interval& interval, std::string (*show)(double)) {
  return StrCat("[", show(interval.low), ", ", show(interval.high), "]");
}
std::string ShowShare(double share) { return absl::StrFormat("%.0f %%", 100 * share); }

}  // namespace dreamstate::evaluation
