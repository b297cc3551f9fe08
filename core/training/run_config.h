// A run that trains a backbone, as its config file says it: JSON, typed, every key optional,
// unknown keys refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/training/learner_options.h"
#include "core/training/loop_config.h"
#include "core/training/run.h"
#include "core/training/sources.h"

namespace dreamstate::training {

struct DataConfig {
  std::string source = "state-ready";  // state-ready, uniform, rwkv-lm or task
  std::string corpus;                  // directory; not for tasks
  StateReadyOptions state_ready;
  TaskOptions task;
};

// What a backbone is validated on.
struct ValidationWindows {
  int per_label = 4;
  int tokens = 512;      // of a window
  int task_batches = 4;  // tasks: held-out batches
};

struct RunConfig : LoopConfig {
  BackboneSizes model;
  // A checkpoint to begin from, in any format that import reads; empty = new parameters.
  std::string init;
  TrainingMode mode = TrainingMode::kFull;
  DataConfig data;
  BatchShape batch;
  int micro_batch_rows = 0;
  OptimiserOptions optimiser;
  bool bf16 = true;
  std::string device = "cpu";
  int threads = 0;
  uint64_t seed = 0;
  ValidationWindows windows;
};

inline constexpr size_t kMostRunConfigBytes = size_t{1} << 20;

// INVALID_ARGUMENT naming `source`, the key, what was expected and found; an unknown key comes with
// the nearest known one.
absl::StatusOr<RunConfig> ParseRunConfig(std::string_view source, std::string_view json);

// The config of a run's directory, as the run was begun. NOT_FOUND when it has none.
absl::StatusOr<RunConfig> ReadRunConfig(const std::string& run);

// All keys with their values, as ParseRunConfig reads them.
std::string SerializeRunConfig(const RunConfig& config);

// A table for people: key, default, what it is for, and below what it accepts.
std::string DescribeRunConfig();

// Whether a run that was begun with one config may go on with another: INVALID_ARGUMENT naming the
// first key of model, data (but where the corpus lies) or batch shape, mode or seed that differs.
absl::Status CheckContinues(const RunConfig& begun, const RunConfig& now);

// A run of this config in `directory`, without what it is validated on. Another config may have
// begun it if CheckContinues lets it.
Run MakeRun(const RunConfig& config, const std::string& directory);

}  // namespace dreamstate::training
