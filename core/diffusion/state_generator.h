// Makes states with a published state DiT (spec sections 3 and 4). Bound to the backbone whose
// states the DiT was trained on. No torch type is shown.
//
// Same seed, same noise for each sample, whatever is made with it. Results are equal to the bit for
// the same number of samples in a call, on one machine; to rounding otherwise, for torch's kernels
// choose by shape. Thread-safe; calls compute one after another's torch operations on torch's
// threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/dit_sizes.h"
#include "core/diffusion/state_codec.h"
#include "core/state/state.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::diffusion {

// What one sample is told; nothing = unconditional.
struct StateCondition {
  int32_t label = -1;       // index into the labels that the DiT was trained with, -1 = none
  std::vector<float> text;  // [T][activation_width] of TextActivations; empty = none
};

enum class GenerateMode {
  kSample,  // the flow from noise
  kMean,    // one step from noise: E[state | condition]
};

struct GenerateOptions {
  GenerateMode mode = GenerateMode::kSample;
  int steps = 10;         // of Heun's method; kSample
  double guidance = 1.0;  // > 1 leans towards the condition
  uint64_t seed = 0;
  int64_t first_sample = 0;  // of the seed's samples
  // Told after each step; false ends it: CANCELLED.
  std::function<bool(int step, int steps)> on_step;
};

class StateGenerator {
 public:
  // Tensors codec.* and dit.* of a component "state_dit". `bf16`: matrix products run in bf16 where
  // the processor has them. INVALID_ARGUMENT naming the tensor that is missing or does not fit.
  static absl::StatusOr<std::unique_ptr<StateGenerator>> Load(const tensors::TensorSet& set,
                                                              bool bf16);
  virtual ~StateGenerator() = default;

  virtual const StateCodec& codec() const = 0;
  virtual const DitSizes& sizes() const = 0;
  // One state a condition. INVALID_ARGUMENT for a label, text or option out of range.
  virtual absl::StatusOr<std::vector<state::State>> Generate(
      std::span<const StateCondition> conditions, const GenerateOptions& options) const = 0;
};

}  // namespace dreamstate::diffusion
