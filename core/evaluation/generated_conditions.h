// Rows of the state-use table (core/evaluation/state_use.h) about a state DiT: what its codec
// costs, what the states are worth that it makes from a label, from an excerpt of the window's own
// text, and from both; and the same excerpts as prompts (design: science.md point 3).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/evaluation/generated_states.h"
#include "core/evaluation/state_conditions.h"

namespace dreamstate::evaluation {

// References first (zero is not among them), then what is generated. What the sources refer to
// outlives the conditions.
std::vector<ConditionSection> MakeGeneratedConditions(
    const std::shared_ptr<const GenerationSources>& sources, int32_t separator);

}  // namespace dreamstate::evaluation
