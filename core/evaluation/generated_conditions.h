// Rows of the state-use table (core/evaluation/state_use.h) about a state DiT: what its codec
// costs, what the states are worth that it makes from a label, from an excerpt of the window's own
// text, and from both; and the same excerpts as prompts (design: science.md point 3).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/state_generator.h"
#include "core/evaluation/state_conditions.h"
#include "core/evaluation/states_under_test.h"
#include "core/rwkv/engine.h"

namespace dreamstate::evaluation {

struct GeneratedOptions {
  std::vector<std::string> labels;  // the generator's, by index
  std::vector<int> taps;            // layers that its texts are read from
  int excerpt_tokens = 64;          // of a window's own context, from a random place
  int draws = 3;                    // samples tried on each window
  int steps = 10;
  double guidance = 2.0;  // of the rows with guidance
  uint64_t seed = 0;
};

// References first (zero is not among them), then what is generated. The generator and the states
// outlive the conditions; the engine is used here alone. INVALID_ARGUMENT when the generator does
// not know a label of the windows.
absl::StatusOr<std::vector<ConditionSection>> MakeGeneratedConditions(
    const StatesUnderTest& states, int32_t separator, const diffusion::StateGenerator& generator,
    rwkv::Engine& engine, const GeneratedOptions& options);

}  // namespace dreamstate::evaluation
