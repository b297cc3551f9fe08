// Whether a state DiT's states are like real ones (core/evaluation/fidelity.h), beside means and
// the controls that must fail: shuffled entries, a normal distribution for each number of a label's
// states, layers taken from different samples.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/fidelity.h"
#include "core/evaluation/generated_states.h"

namespace dreamstate::evaluation {

struct GeneratedFidelity {
  double variance_share = 0;
  std::vector<FidelityRow> rows;
};

// One state a window of each kind. Training states are those of the choice's training documents:
// what a generator copied from others is not seen.
absl::StatusOr<GeneratedFidelity> MeasureGeneratedFidelity(
    const std::shared_ptr<const GenerationSources>& sources, const FidelityOptions& options);

}  // namespace dreamstate::evaluation
