// A training run as a command shows and steers it: progress on the terminal, /metrics, signals.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/training/run.h"
#include "nlohmann/json.hpp"
#include "server/trainer/training_display.h"

namespace dreamstate::trainer {

struct TrainingSession {
  bool resume = false;
  std::string admin_address;  // of /metrics; empty = nowhere
  // As RunHooks::publish.
  std::function<absl::StatusOr<int64_t>(training::Learner&, int64_t step, const nlohmann::json&)>
      publish;
  // What a validation says: "4.2 nats a token, 30.00 % right".
  std::function<std::string(const training::Validation&)> describe = DescribeTokens;

  static std::string DescribeTokens(const training::Validation& validation);
};

// That nobody reads any more what is shown is no reason to lose a run.
void IgnoreBrokenPipes();

// Trains until the end, or until SIGTERM, SIGINT or SIGHUP, which are this run's from here on: it
// saves and ends OK. The error of the last publication, when the run was
// finished and that failed.
absl::Status RunTraining(const training::Run& run, training::Learner& learner,
                         training::BatchSource& source, const TrainingSession& session,
                         TrainingDisplay& display);

}  // namespace dreamstate::trainer
