// A run that trains a state DiT, as its config file says it: JSON, typed, every key optional but
// data.states, unknown keys refused.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/training/loop_config.h"
#include "core/training/run.h"
#include "core/training/state_dit_learner.h"
#include "core/training/state_records.h"

namespace dreamstate::training {

struct StateDitConfig : LoopConfig {
  StateDitConfig() {
    schedule = {.lr = 5e-4, .lr_final = 1e-5, .warmup_steps = 100, .steps = 5000};
  }

  StateDitOptions learner;
  std::string states;  // directory of the data set
  StateConditionShares shares;
  int rows = 64;  // states a step
  // The mode `tuned` is learned, and the state DiT that the published model has is gone on with.
  struct Tuning {
    bool wanted = false;
    std::string corpus;  // directory that the data set was made of
    int tokens = 128;    // of the window that each state has to help with
  } tuning;
  int validation_states_per_label = 8;
};

// INVALID_ARGUMENT naming `source`, the key, what was expected and found.
absl::StatusOr<StateDitConfig> ParseStateDitConfig(std::string_view source, std::string_view json);
std::string SerializeStateDitConfig(const StateDitConfig& config);
// A table for people: key, default, what it is for, and below what it accepts.
std::string DescribeStateDitConfig();

// As MakeRun of core/training/run_config.h.
Run MakeRun(const StateDitConfig& config, const std::string& directory);

}  // namespace dreamstate::training
