// How long an initial state helps, as a picture.
#pragma once

#include "absl/status/statusor.h"
#include "core/evaluation/state_use.h"
#include "core/picture/image.h"

namespace dreamstate::evaluation {

// Bits saved per byte against the distance from the state, a curve each for the states that say
// most: own, class mean, another document's, wrong label, shuffled, a prompt. A point stands in the
// middle of its distances.
absl::StatusOr<picture::Image> DrawStateUse(const StateUse& use, const StateUseOptions& options);

}  // namespace dreamstate::evaluation
