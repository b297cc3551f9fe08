// What a learner is made of; filled in from a run's config file (core/training/run_config.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/rwkv/config.h"
#include "core/tensors/tensor_set.h"
#include "core/training/batch.h"
#include "core/training/learner.h"
#include "core/training/ranks.h"

namespace dreamstate::training {

// Sizes of a new backbone; 0 = the trainer's formula (ffn 4 D, ranks of spec section 1.2).
struct BackboneSizes {
  int vocab = 256;
  int layers = 4;
  int width = 256;
  int head_size = 64;
  int ffn_width = 0;
  int rank_decay = 0, rank_iclr = 0, rank_value = 0, rank_gate = 0;
};

// Those of a checkpoint, none of them 0.
BackboneSizes SizesOf(const rwkv::Config& config);

enum class TrainingMode {
  kFull,  // all parameters
  // Only blocks.{i}.att.time_state, one state a label (spec section 3.5): every row begins from the
  // state of its label, whatever slots it names.
  kStateTuning,
};

struct OptimiserOptions {
  double beta1 = 0.9, beta2 = 0.99, eps = 1e-18;
  double weight_decay = 0.1;
  double clip = 1.0;  // global gradient norm
};

struct LearnerOptions {
  BackboneSizes sizes;
  // Fine-tuning: sizes come from these tensors (official names) instead; null = new parameters
  // (spec section 3.1).
  const tensors::TensorSet* initial = nullptr;
  TrainingMode mode = TrainingMode::kFull;
  int labels = 0;  // state tuning: how many states
  OptimiserOptions optimiser;
  bool bf16 = true;            // bf16 matrix products with fp32 masters where the device has them
  std::string device = "cpu";  // "cpu" or "cuda"
  int threads = 0;             // 0 = every processor
  // Rows of the global batch that are computed at once; 0 = all of a rank's. Less memory, the
  // same gradient.
  int micro_batch_rows = 0;
  int bank_slots = 0;
  // Of the global batches: what a step takes of memory is compared with what is left.
  BatchShape batch = {.rows = 0, .tokens = 0};
  uint64_t seed = 0;
  // Several ranks train one model: each computes its rows of a batch (rank, rank + size, ...).
  Ranks ranks;
  // What all ranks must have alike (the run's config, the corpus); compared when they join.
  std::string shared;
};

// Waits for the other ranks. RESOURCE_EXHAUSTED saying what takes how much when the run does not
// fit the memory that is left. FAILED_PRECONDITION when the device is not there, INVALID_ARGUMENT
// naming the wrong size, UNAVAILABLE when the ranks do not find each other.
absl::StatusOr<std::unique_ptr<Learner>> MakeBackboneLearner(const LearnerOptions& options);

}  // namespace dreamstate::training
