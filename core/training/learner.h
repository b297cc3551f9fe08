// A model in training: parameters, optimiser and state bank, on one device. The run loop
// (core/training/run.h) drives it and knows nothing of torch; no torch type is shown here.
// With several ranks all of them call Step, Evaluate, Any and Agree in the same order; the other
// members are each rank's own. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"
#include "core/training/batch.h"

namespace dreamstate::training {

struct StepResult {
  double loss = 0;       // mean nats a scored token, of the global batch, before the update
  double grad_norm = 0;  // global norm before clipping
  int64_t tokens = 0;    // input tokens of the global batch
};

struct EvaluationResult {
  double nll = 0;                    // nats, summed over scored tokens
  int64_t scored = 0;                // targets that are not -1
  int64_t correct = 0;               // of them, how many are the arg-max (the first, on ties)
  std::vector<double> row_nll;       // [B]
  std::vector<int64_t> row_scored;   // [B]
  std::vector<int64_t> row_correct;  // [B]
};

class Learner {
 public:
  virtual ~Learner() = default;

  // One optimiser step at this learning rate (of the groups with factor 1). A loss or gradient
  // norm that is not finite changes no parameter; it is returned, not an error. Errors:
  // INVALID_ARGUMENT for a malformed batch, RESOURCE_EXHAUSTED for no memory, UNAVAILABLE when a
  // peer rank is gone.
  virtual absl::StatusOr<StepResult> Step(const Batch& batch, double lr) = 0;

  // Losses without a step; keep_slot is ignored.
  virtual absl::StatusOr<EvaluationResult> Evaluate(const Batch& batch) = 0;

  // Whether some rank says yes: how ranks agree to stop. UNAVAILABLE when one is gone.
  virtual absl::StatusOr<bool> Any(bool here) { return here; }
  // That all ranks pass the same text: FAILED_PRECONDITION naming `what` and the ranks whose text
  // is not that of rank 0.
  virtual absl::Status Agree(std::string_view what, std::string_view text) {
    return absl::OkStatus();
  }

  // Everything that a resumed run needs to repeat the uninterrupted one: fp32 masters, optimiser
  // moments, step count, bank. Writes safetensors files into an existing directory.
  virtual absl::Status Save(const std::string& directory) = 0;
  virtual absl::Status Restore(const std::string& directory) = 0;

  // The parameters as a checkpoint of official names and shapes (spec section 1.1), bf16 unless
  // `fp32`. State tuning gives blocks.{i}.att.time_state [labels][H][N value][N key] fp32 instead.
  virtual absl::StatusOr<tensors::TensorSet> Export(bool fp32 = false) = 0;

  virtual int64_t parameters() const = 0;
  // "cpu/avx512bf16 bf16", "cuda:0 bf16": for logs.
  virtual std::string device() const = 0;
};

}  // namespace dreamstate::training
