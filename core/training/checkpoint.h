// Checkpoints of a run: directories that are seen whole or not at all. A directory is filled under
// a temporary name, synced, and renamed to its step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/training/batch.h"
#include "core/training/learner.h"
#include "nlohmann/json.hpp"

namespace dreamstate::training {

// checkpoints/0000000120 of a run's directory.
std::string CheckpointPath(const std::string& run, int64_t step);

// The steps of whole checkpoints, oldest first; none when there is no such run.
absl::StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& run);

// `position` is the data's (BatchSource::Save), `state` the loop's own.
absl::Status SaveCheckpoint(const std::string& run, int64_t step, Learner& learner,
                            const std::string& position, const nlohmann::json& state);

struct RestoredCheckpoint {
  std::string position;
  nlohmann::json state;
};
absl::StatusOr<RestoredCheckpoint> RestoreCheckpoint(const std::string& run, int64_t step,
                                                     Learner& learner);

// Removes all but the newest `keep`, and what killed runs left behind.
absl::Status PruneCheckpoints(const std::string& run, int keep);

}  // namespace dreamstate::training
