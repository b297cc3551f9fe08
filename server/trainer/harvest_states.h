// Makes a data set of states (core/training/state_dataset.h) with the engine that serves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/stopping.h"
#include "core/evaluation/progress.h"
#include "core/rwkv/weights.h"
#include "server/trainer/load_backbone.h"

namespace dreamstate::trainer {

struct HarvestOptions {
  BackboneChoice backbone;
  rwkv::WeightFormat weights = rwkv::WeightFormat::kFloat32;
  std::string corpus;                             // directory
  std::string directory;                          // of the data set
  std::vector<int> positions = {256, 512, 1024};  // tokens of a document that a state has read
  bool before = false;                            // also the states before the separator
  int excerpts = 2;                               // of each document
  int excerpt_tokens = 64;
  std::vector<int> taps;  // layers of the excerpts' activations; empty: the middle and the last one
  int documents_per_shard = 64;
  int worker = 0, workers = 1;  // shards worker, worker + workers, ...
  int threads = 0;
  uint64_t seed = 0;
  Stopping stopping;
  evaluation::StageProgress progress = [](std::string_view, int64_t, int64_t) {};
};

struct HarvestReport {
  int shards_made = 0;
  int shards_there = 0;   // already
  int64_t states = 0;     // made now
  int64_t tokens = 0;     // read now
  bool complete = false;  // all shards of all workers are there
};

// Makes the shards that are missing. A document that is shorter than a position gives no state of
// it, one that is shorter than an excerpt none of those. CANCELLED when it was told to stop; the
// shards that were made stay.
absl::StatusOr<HarvestReport> HarvestStates(const HarvestOptions& options);

}  // namespace dreamstate::trainer
