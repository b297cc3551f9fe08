// One training run: steps until the end, and a directory that says everything about it:
//   config.json        the config as it was understood
//   log.jsonl          a line a step, a validation, a checkpoint, a publication
//   curves.csv .png    the losses
//   checkpoints/<step>/  what a resumed run needs; step numbers have ten digits
// A resumed run repeats the uninterrupted one: log and curves are cut back to the checkpoint it
// continues. Killed at any moment, a run loses at most the steps since its last checkpoint, which
// is seen whole or not at all. One process a directory at a time. No torch here: the learner is an
// interface (core/training/learner.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/stopping.h"
#include "core/training/batch.h"
#include "core/training/learner.h"
#include "core/training/loop_config.h"
#include "nlohmann/json.hpp"

namespace dreamstate::training {

// Where a run is, for whoever shows it.
struct RunProgress {
  int64_t step = 0;  // steps done
  int64_t steps = 0;
  int64_t tokens = 0;  // read so far, resumed parts included
  StepResult last;
  double smoothed_loss = 0;
  double lr = 0;
  double tokens_per_second = 0;  // of the last seconds
  double data_wait_seconds = 0;  // waited for batches, in this process
  double seconds_left = 0;
};

struct Validation {
  int64_t step = 0;
  double loss = 0;                 // mean nats a scored token, labels weighted alike
  double accuracy = 0;             // share of scored tokens that are the arg-max
  std::vector<double> label_loss;  // by label; NaN = no window
};

// What happens outside of the loop; every member may be empty. Called from the loop's thread.
struct RunHooks {
  std::function<void(const RunProgress&)> on_step;
  std::function<void(const Validation&)> on_validation;
  std::function<void(int64_t step, const std::string& path)> on_checkpoint;
  // Publishes the learner's model and returns the version.
  std::function<absl::StatusOr<int64_t>(Learner&, int64_t step, const nlohmann::json& metrics)>
      publish;
  std::function<void(int64_t step, const absl::StatusOr<int64_t>& version)> on_published;
  // Something of the run could not be written, and the run goes on.
  std::function<void(const absl::Status&)> on_trouble;
  // Asked once a step: true = save and end.
  Stopping stopping;
};

struct RunOutcome {
  int64_t step = 0;
  bool finished =
      false;  // all steps done; otherwise it was told to stop, and a checkpoint is there
  absl::Status published;  // how the last publication went, OK when there was none
};

struct Run {
  LoopConfig loop;
  std::string config;  // the text of config.json
  // Whether a run that was begun in a directory may go on with this config; INVALID_ARGUMENT naming
  // the key that differs.
  std::function<absl::Status(const std::string& directory)> continues;
  std::string directory;
  // The validation batches; a label's loss is the mean over its rows.
  std::vector<Batch> validation;
  int labels = 0;
  // Only rank 0 writes.
  bool writes = true;
};

// config.json of a run's directory.
std::string RunConfigPath(const std::string& run);

// Continues the newest checkpoint of the directory when there is one, else begins. `resume` false:
// FAILED_PRECONDITION when the directory holds a run, and when ranks go on from different
// checkpoints; INVALID_ARGUMENT naming the key when the config does not fit the run. DATA_LOSS
// naming the last good checkpoint when the run diverges (a loss that is not finite, or jumps).
// A log line, curves or a checkpoint that cannot be written are tried again while there are steps
// left; only the checkpoint at the end, or when it was told to stop, must succeed.
absl::StatusOr<RunOutcome> Train(const Run& run, bool resume, Learner& learner, BatchSource& source,
                                 const RunHooks& hooks);

}  // namespace dreamstate::training
