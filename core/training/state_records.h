// Which states of a data set a state DiT is trained and validated on, numbered. No torch here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/training/batch.h"
#include "core/training/state_dataset.h"

namespace dreamstate::training {

struct StateRecord {
  StateOrigin origin;
  Split split = Split::kTrain;
  int32_t shard = 0, row = 0;  // where it lies
  int64_t excerpts = -1;       // number of its document's excerpts, -1 = none
};

// Immutable, thread-safe.
class StateRecords {
 public:
  // The states of trained labels in the training and validation splits. FAILED_PRECONDITION when
  // shards are missing or a split has no state; errors of StateDataset.
  static absl::StatusOr<std::shared_ptr<const StateRecords>> Read(const StateDataset& dataset);

  const StateDatasetInfo& info() const { return dataset_.info(); }
  const StateDataset& dataset() const { return dataset_; }
  // Training states first, shard by shard.
  const std::vector<StateRecord>& all() const { return all_; }
  int64_t training() const { return training_; }
  // Documents with excerpts, in the order of StateRecord::excerpts.
  int64_t excerpt_documents() const { return excerpt_documents_; }
  // Training states of a label.
  const std::vector<int64_t>& of_label(int32_t label) const { return by_label_[label]; }
  // Labels that have training states.
  const std::vector<int32_t>& labels() const { return labels_; }

 private:
  explicit StateRecords(const StateDataset& dataset) : dataset_(dataset) {}
  absl::Status Add(Split split);

  StateDataset dataset_;
  std::vector<StateRecord> all_;
  int64_t training_ = 0, excerpt_documents_ = 0;
  std::vector<std::vector<int64_t>> by_label_;  // [labels]
  std::vector<int32_t> labels_;
};

// What a row is told of its state: shares of rows; what is left of 1 is told nothing.
struct StateConditionShares {
  double label = 0.3;
  double text = 0.35;
  double both = 0.25;
  int excerpt_min_tokens = 8;  // of the tokens of an excerpt that are told
};

// Batches of `rows` states, labels equally likely, then a state of the label. Seeded by step.
absl::StatusOr<std::unique_ptr<BatchSource>> MakeStateSource(
    std::shared_ptr<const StateRecords> records, int rows, const StateConditionShares& shares,
    uint64_t seed);

// Validation states, at most `per_label` of a label, told their label; in batches of `rows`.
std::vector<Batch> HeldOutStates(const StateRecords& records, int rows, int per_label);

}  // namespace dreamstate::training
