// Escape sequences that paint text on a terminal.
#pragma once

#include <string>

#include "core/picture/palette.h"

namespace dreamstate::cli {

// With 24-bit colours, or with the nearest of 256.
class Pen {
 public:
  explicit Pen(bool true_colour) : true_colour_(true_colour) {}
  std::string Foreground(picture::Rgb colour) const { return Code(38, colour); }
  std::string Background(picture::Rgb colour) const { return Code(48, colour); }

 private:
  std::string Code(int what, picture::Rgb colour) const;
  const bool true_colour_;
};

inline constexpr char kReset[] = "\033[0m";

// Whether the terminal says that it has 24-bit colours (COLORTERM).
bool HasTrueColour();

}  // namespace dreamstate::cli
