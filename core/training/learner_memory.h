// Whether a run fits the memory that is left, before it takes any.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "core/training/learner_options.h"

namespace dreamstate::training {

// RESOURCE_EXHAUSTED saying what takes how much when model, optimiser, kept states and a step of
// `options.batch` need more than `available` bytes; nothing = not known, and everything fits.
// `sizes` are complete; `bf16`: the products are.
absl::Status CheckMemory(const LearnerOptions& options, const BackboneSizes& sizes, bool bf16,
                         std::optional<int64_t> available);

}  // namespace dreamstate::training
