#include "client/cli/pen.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_format.h"

namespace dreamstate::cli {
namespace {

using picture::Rgb;

// The nearest of the 216 colours of a terminal with 256.
int NearestOf256(Rgb colour) {
  const auto step = [](uint8_t byte) { return byte < 48 ? 0 : byte < 115 ? 1 : (byte - 35) / 40; };
  return 16 + 36 * step(colour.red) + 6 * step(colour.green) + step(colour.blue);
}

}  // namespace

std::string Pen::Code(int what, Rgb c) const {
  return true_colour_ ? absl::StrFormat("\033[%d;2;%d;%d;%dm", what, c.red, c.green, c.blue)
                      : absl::StrFormat("\033[%d;5;%dm", what, NearestOf256(c));
}

bool HasTrueColour() {
  const char* const depth = std::getenv("COLORTERM");
  return depth != nullptr &&
         (std::strcmp(depth, "truecolor") == 0 || std::strcmp(depth, "24bit") == 0);
}

}  // namespace dreamstate::cli
