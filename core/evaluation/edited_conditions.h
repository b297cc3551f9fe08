// Rows of the state-use table (core/evaluation/state_use.h) about edits with a state DiT: what a
// projection costs a clean state and repairs of a spoilt one, what inpainting gives in place of
// half of a state, what a translation makes of a state of another label (spec section 4; design:
// science.md point 8). All with the codec's mean shift vectors.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/evaluation/generated_states.h"
#include "core/evaluation/state_conditions.h"

namespace dreamstate::evaluation {

// What the sources refer to outlives the conditions.
std::vector<ConditionSection> MakeEditedConditions(
    const std::shared_ptr<const GenerationSources>& sources, int32_t separator);

}  // namespace dreamstate::evaluation
