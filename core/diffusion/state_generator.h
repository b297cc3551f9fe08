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
#include "core/diffusion/safety.h"
#include "core/diffusion/solver.h"
#include "core/diffusion/state_codec.h"
#include "core/state/state.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::diffusion {

// One thing that a sample is told.
struct StateCondition {
  int32_t label = -1;       // index into the labels that the DiT was trained with, -1 = none
  std::vector<float> text;  // [T][activation_width] of TextActivations; empty = none
  // 1 = as it is, more leans towards it, below 0 away from it; not 0.
  float weight = 1;
};

// One state to make.
struct StateRequest {
  std::vector<StateCondition> conditions = {};  // none = unconditional
  // The state that is made on: its matrices are noised to `noise` and made anew (0 < noise < 1, the
  // share of noise), or those that `keep` names stay and the others are made (noise = 1). Null =
  // from noise alone. Outlives the call.
  const state::State* from = nullptr;
  double noise = 1;
  std::vector<bool> keep = {};  // [L][H]; empty = none
  // Its noise.
  uint64_t seed = 0;
  int64_t sample = 0;
};

// One state to lead from one description to another (spec section 4, FlowEdit).
struct TranslateRequest {
  const state::State* state = nullptr;  // outlives the call
  std::vector<StateCondition> from = {};
  std::vector<StateCondition> to = {};
  double noise = 1;  // where the change begins, in (0, 1]
  uint64_t seed = 0;
};

enum class GenerateMode {
  kSample,  // the flow from noise
  kMean,    // one step from noise: E[state | condition]
  kTuned,   // one step from noise: what saves most bits of a text that fits the condition
};

struct GenerateOptions {
  GenerateMode mode = GenerateMode::kSample;
  int steps = 10;  // of the solver; kSample
  Solver solver = Solver::kHeun;
  // Told after each step; false ends it: CANCELLED.
  std::function<bool(int step, int steps)> on_step = nullptr;
};

class StateGenerator {
 public:
  // Tensors codec.*, dit.* and, where it has a gate, safety.* of a component "state_dit". `bf16`:
  // matrix products run in bf16 where the processor has them. INVALID_ARGUMENT naming the tensor
  // that is missing or does not fit.
  static absl::StatusOr<std::unique_ptr<StateGenerator>> Load(const tensors::TensorSet& set,
                                                              bool bf16);
  virtual ~StateGenerator() = default;

  virtual const StateCodec& codec() const = 0;
  virtual const DitSizes& sizes() const = 0;
  // Null: the component has none.
  virtual const SafetyGate* gate() const = 0;
  // One state a request; what is kept is as it was. The shift vectors are the training states'
  // mean ones. Requests of one call have the same noise. INVALID_ARGUMENT naming the field: a
  // label, text, weight, mask, state or option out of range.
  virtual absl::StatusOr<std::vector<state::State>> Generate(
      std::span<const StateRequest> requests, const GenerateOptions& options) const = 0;
  // The state under its new description. Shift vectors stay.
  virtual absl::StatusOr<state::State> Translate(const TranslateRequest& request,
                                                 const GenerateOptions& options) const = 0;
  // States at `fractions` in [0, 1] of the way from one to the other along the flow: through the
  // noises that both come from. Shift vectors are in between.
  virtual absl::StatusOr<std::vector<state::State>> AlongFlow(
      const state::State& first, const state::State& second, std::span<const double> fractions,
      const GenerateOptions& options) const = 0;
  // Denoiser energy of each state (flow.h), in units of the codec's scales; the same for the same
  // state.
  virtual absl::StatusOr<std::vector<double>> Energy(
      std::span<const state::State* const> states) const = 0;
};

}  // namespace dreamstate::diffusion
