// Batches for the mode `tuned` of a state DiT: states of a data set, and of each its document's
// tokens that a made state has to help with. No torch here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/training/corpus.h"
#include "core/training/state_records.h"

namespace dreamstate::training {

// A row is a state, what is told of it, and a window of its document: the separator, then `tokens`
// - 1 tokens, all of them and the next as targets. Where an excerpt is told, the window begins
// behind it; else anywhere. What lies behind the document's end is not scored.
struct TuningOptions {
  int rows = 32;
  int tokens = 128;
  StateConditionShares shares;
  uint64_t seed = 0;
};

// FAILED_PRECONDITION when the data set was not made of this corpus, INVALID_ARGUMENT naming the
// shard that has a document which the corpus lacks.
absl::StatusOr<std::unique_ptr<BatchSource>> MakeTuningSource(
    std::shared_ptr<const StateRecords> records, std::shared_ptr<const Corpus> corpus,
    const TuningOptions& options);

// Of records that MakeTuningSource took: of validation documents, at most `per_label` of a label:
// one half is told its label, the other an excerpt; the same every time.
std::vector<Batch> HeldOutWindows(const StateRecords& records, const Corpus& corpus,
                                  const TuningOptions& options, int per_label);

}  // namespace dreamstate::training
