// Numbers of every layer and head, drawn on the terminal and as a picture.
#pragma once

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "client/cli/output.h"

namespace dreamstate::cli {

// What is drawn.
struct HeadMap {
  std::string title;     // "RMS of every matrix"
  std::string subtitle;  // whose: goes into the picture only
  int layers = 0, heads = 0;
  std::vector<float> values;  // [layers][heads]
};

// The lines of a map, at most 80 columns wide: a row a layer with the numbers themselves for up to
// 12 heads, a coloured cell or a digit 0 to 9 a head for more (then with half blocks two layers a
// row from 38 heads on, where there are colours). Escape sequences only with `colour`; 24-bit ones
// with `true_colour`, else those of 256 colours. `map` has as many values as its sizes say.
std::vector<std::string> DrawLines(const HeadMap& map, bool colour, bool true_colour);

// Draws it as a result.
void Print(const HeadMap& map, Output& output);

// --png and --force of the commands that draw.
struct PngArguments {
  std::string file;
  bool replace = false;

  void AddTo(CLI::App& command);
  // A usage error when the file may not be written; for before anything is asked of the server.
  absl::Status Check() const;
  // Writes the picture when one is wanted, and notes it.
  absl::Status Write(const HeadMap& map, Output& output) const;
};

// The server's answer has as many values as the sizes it says, and not too many; else INTERNAL.
absl::Status CheckSizes(int layers, int heads, int values);

}  // namespace dreamstate::cli
