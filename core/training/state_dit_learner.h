// A state DiT in training (core/training/learner.h). Batches are of MakeStateSource. No torch type
// is shown.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/diffusion/dit_sizes.h"
#include "core/training/learner.h"
#include "core/training/learner_options.h"
#include "core/training/ranks.h"
#include "core/training/state_records.h"

namespace dreamstate::training {

struct StateDitOptions {
  // state_heads, token_size, labels and activation_width come from the data.
  diffusion::DitSizes sizes;
  diffusion::FlowOptions flow;
  OptimiserOptions optimiser;
  double ema_decay =
      0.999;  // of the weights that are validated and published; less in the beginning
  bool bf16 = true;
  std::string device = "cpu";
  int threads = 0;
  uint64_t seed = 0;
  int codec_states = 2048;  // training states that the codec is fitted on
  // A trained state DiT (tensors dit.* and codec.*) to begin from instead of random values and a
  // codec fitted here; `sizes` and `codec` are then its own. Need not outlive MakeStateDitLearner.
  const tensors::TensorSet* initial = nullptr;
  // The frozen backbone (official names): the mode `tuned` is learned too, from batches with tokens
  // (tuning_source.h). Need not outlive MakeStateDitLearner.
  const tensors::TensorSet* backbone = nullptr;
  double flow_weight = 0.1;  // of the flow loss beside the tokens' cross entropy
  // The codec's file: read when it is there, else fitted and written.
  std::string codec;
};

// Reads all states into memory, as codes of 16 bits. Errors as MakeBackboneLearner, and of the data
// set. Step's loss is the mean velocity loss of a number of the code, in squares; Evaluate's
// row_nll is that of a row at fixed times with fixed noise, row_scored 1. With a backbone Step's
// loss is the cross entropy of the batch's tokens behind the states made in mode `tuned`, in nats a
// token, plus flow_weight times the velocity loss; Evaluate gives the cross entropy alone.
absl::StatusOr<std::unique_ptr<Learner>> MakeStateDitLearner(
    std::shared_ptr<const StateRecords> records, const StateDitOptions& options);

}  // namespace dreamstate::training
