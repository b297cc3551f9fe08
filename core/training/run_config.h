// A training run, as its config file says it: JSON, typed, every key optional, unknown keys
// refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/training/learner_options.h"
#include "core/training/schedule.h"
#include "core/training/sources.h"

namespace dreamstate::training {

struct DataConfig {
  std::string source = "state-ready";  // state-ready, uniform, rwkv-lm or task
  std::string corpus;                  // directory; not for tasks
  StateReadyOptions state_ready;
  TaskOptions task;
};

struct CheckpointConfig {
  double every_minutes = 10;
  int64_t every_steps = 0;  // 0 = by minutes alone
  int keep = 2;
};

struct ValidationConfig {
  int64_t every_steps = 200;
  int windows_per_label = 4;
  int tokens = 512;      // of a window
  int task_batches = 4;  // tasks: held-out batches
};

struct PublishConfig {
  std::string repository;  // empty = nothing is published
  std::string model;
  double every_minutes = 0;  // 0 = not by time
  bool on_improvement = false;
  bool at_end = true;
  bool allow_losing_components = false;
};

struct RunConfig {
  BackboneSizes model;
  // A checkpoint to begin from, in any format that import reads; empty = new parameters.
  std::string init;
  TrainingMode mode = TrainingMode::kFull;
  DataConfig data;
  BatchShape batch;
  int micro_batch_rows = 0;
  OptimiserOptions optimiser;
  Schedule schedule = {.lr = 1e-3, .lr_final = 1e-4, .warmup_steps = 10, .steps = 1000};
  bool bf16 = true;
  std::string device = "cpu";
  int threads = 0;
  uint64_t seed = 0;
  CheckpointConfig checkpoint;
  ValidationConfig validation;
  PublishConfig publish;
  // The run ends with an error when the loss exceeds its smoothed value by more than so many nats.
  double divergence_nats = 2.0;
  int64_t log_every_steps = 1;
};

inline constexpr size_t kMostRunConfigBytes = size_t{1} << 20;

// INVALID_ARGUMENT naming `source`, the key, what was expected and found; an unknown key comes with
// the nearest known one.
absl::StatusOr<RunConfig> ParseRunConfig(std::string_view source, std::string_view json);

// The config of a run's directory, as the run was begun. NOT_FOUND when it has none.
absl::StatusOr<RunConfig> ReadRunConfig(const std::string& run);
std::string RunConfigPath(const std::string& run);

// All keys with their values, as ParseRunConfig reads them.
std::string SerializeRunConfig(const RunConfig& config);

// A table for people: key, default, what it is for, and below what it accepts.
std::string DescribeRunConfig();

// Whether a run that was begun with one config may go on with another: INVALID_ARGUMENT naming the
// first key of model, data (but where the corpus lies) or batch shape, mode or seed that differs.
absl::Status CheckContinues(const RunConfig& begun, const RunConfig& now);

}  // namespace dreamstate::training
