// What one optimiser step reads, and where batches come from: rows of tokens, or, for a state DiT,
// states of a data set and no tokens. No torch here: sources are tested
// without it.
//
// A state bank is a fixed number of slots, each holding one state of the backbone that is being
// trained. The learner owns the states (core/training/learner.h); the batch source owns what is
// known of them (label, document, position) and says per row from which slots it begins and into
// which slot its last state goes. So a window may begin from the state of another document, from
// the mean of its label, or where its own document left off. No gradient passes through a slot.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dreamstate::training {

// One row of a batch.
struct Row {
  // Slots whose states are averaged into the row's initial state (shift and WKV alike); none = the
  // zero state. Only slots that were kept before.
  std::vector<int32_t> start_slots;
  // The slot that takes the state after the row's last token, once the step is done; -1 = none.
  // Distinct over the batch.
  int32_t keep_slot = -1;
  // Index into the corpus's labels, -1 = none. State tuning learns one state a label; a state DiT
  // is told it.
  int32_t label = -1;
  // State DiT: which state of the data set (core/training/state_records.h), and so many tokens of
  // which excerpt of its document are told; -1 = none.
  int64_t record = -1;
  int32_t excerpt = -1;
  int32_t excerpt_tokens = 0;
};

struct BatchShape {
  int rows = 8;
  int tokens = 512;
};

// The GLOBAL batch of a step: with several ranks each rank trains on its own rows of it
// (rank, rank + world size, ...), so that the same batch means the same step on any number of
// ranks.
struct Batch {
  int rows = 0;                  // B
  int tokens = 0;                // T
  std::vector<int32_t> inputs;   // [B][T]
  std::vector<int32_t> targets;  // [B][T]; -1 is not scored
  std::vector<Row> row;          // [B]
};

// An endless, seeded sequence of batches. Not thread-safe, but Next may run on another thread than
// the learner. Same seed and options, same batches; Restore(Save()) continues to the bit.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Slots that its batches name; 0 = it needs no bank.
  virtual int bank_slots() const = 0;
  virtual absl::StatusOr<Batch> Next() = 0;
  // Where it is: a few bytes, for checkpoints. INVALID_ARGUMENT for what Save of the same options
  // did not write.
  virtual std::string Save() const = 0;
  virtual absl::Status Restore(const std::string& position) = 0;
};

}  // namespace dreamstate::training
