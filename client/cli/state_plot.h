// Points of a plane in groups, drawn on the terminal.
#pragma once

#include <string>
#include <vector>

#include "client/cli/output.h"
#include "core/picture/scatter.h"

namespace dreamstate::cli {

// The lines of a plot, 80 columns wide: a letter a cell, that of the group with most points there.
// Groups behind the 52nd are all "#". Escape sequences only with `colour`; 24-bit ones with
// `true_colour`, else those of 256 colours. Every point has one of the groups.
std::vector<std::string> PlotLines(const picture::Scatter& scatter, bool colour, bool true_colour);

// What the letters mean, in lines of at most 80 columns where the names allow that.
std::vector<std::string> PlotLegend(const picture::Scatter& scatter);

// Draws both as a result.
void Print(const picture::Scatter& scatter, Output& output);

}  // namespace dreamstate::cli
