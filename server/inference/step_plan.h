// Divides one step's token budget. A pure function.
#pragma once

#include <cstdint>
#include <span>

namespace dreamstate::server {

enum class WorkKind {
  kDecode,   // one token that must come before the next can be known
  kPrefill,  // tokens that are known; any number of them may be read at once
};

// What one sequence could read in the next step.
struct WorkOffer {
  WorkKind kind;
  int64_t tokens;  // >= 1; 1 for kDecode
};

struct StepBudget {
  int tokens;
  int sequences;
};

// counts[i] = tokens that offer i reads in this step, 0 = not this time. Decode tokens come first;
// what is left is shared evenly among prefills, what one does not need going to those after it. The
// order of service begins at offer `turn` modulo their number, so that with a turn that grows each
// step nobody waits for ever. Allocates nothing.
void PlanStep(std::span<const WorkOffer> offers, const StepBudget& budget, uint64_t turn,
              std::span<int> counts);

}  // namespace dreamstate::server
