// Where a state came from and what was made from it, as lines of text.
#pragma once

#include <string>
#include <vector>

#include "dreamstate/v1/state_service.pb.h"

namespace dreamstate::cli {

// A tree from the oldest ancestors down, a line a state:
//   o states/a  harvest, 1330 tokens, 2026-01-31 08:05:12, quickstart
//   ├─o states/b  decode, 1390 tokens, …
//   │ o states/c  decode, …
//   └─* states/d  decode, …
// Each stands below the one that it was made from; an only child in its parent's column. "*" marks
// the one that was asked for, "x" those of which nothing or only a stub is left. A state of several
// parents is drawn below each, with what comes after it only the first time. Safe for any answer of
// a server, cycles included.
std::vector<std::string> LineageTree(const v1::GetLineageResponse& lineage);

// The same graph in Graphviz' language.
std::vector<std::string> LineageDot(const v1::GetLineageResponse& lineage);

}  // namespace dreamstate::cli
