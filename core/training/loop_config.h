// What the run loop (core/training/run.h) needs of a run's config, whatever is trained.
#pragma once

#include <cstdint>
#include <string>

#include "core/training/learner_options.h"
#include "core/training/schedule.h"

namespace dreamstate::training {

struct CheckpointConfig {
  double every_minutes = 10;
  int64_t every_steps = 0;  // 0 = by minutes alone
  int keep = 2;
};

struct ValidationConfig {
  int64_t every_steps = 200;  // 0 = never
};

struct PublishConfig {
  std::string repository;  // empty = nothing is published
  std::string model;
  double every_minutes = 0;  // 0 = not by time
  bool on_improvement = false;
  bool at_end = true;
  bool allow_losing_components = false;
};

struct LoopConfig {
  Schedule schedule = {.lr = 1e-3, .lr_final = 1e-4, .warmup_steps = 10, .steps = 1000};
  CheckpointConfig checkpoint;
  ValidationConfig validation;
  PublishConfig publish;
  // The run ends with an error when the loss exceeds its smoothed value by more than so much.
  double divergence_nats = 2.0;
  int64_t log_every_steps = 1;
};

}  // namespace dreamstate::training
