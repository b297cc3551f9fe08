// A table for people: aligned columns for a terminal, or Markdown.
#pragma once

#include <string>
#include <vector>

#include "core/evaluation/bootstrap.h"

namespace dreamstate::evaluation {

struct Table {
  std::string title;                           // what was measured, on what
  std::vector<std::string> columns;            // the first is aligned left, the others right
  std::vector<std::vector<std::string>> rows;  // as many cells as columns; one cell: a heading
  std::vector<std::string> notes;              // below it, a line each

  std::string ToText() const;
  std::string ToMarkdown() const;
};

// "1.540"; signed: "+0.0323", "-0.0108".
std::string ShowBits(double value);
std::string ShowSigned(double value);
// "[+0.0293, +0.0351]", "[1.512, 1.570]".
std::string ShowInterval(const Interval& interval, std::string (*show)(double));
// "87 %".
std::string ShowShare(double share);

}  // namespace dreamstate::evaluation
