// A data set of states: what texts leave in a backbone, for the state DiT to be trained on. A
// directory holds
//   dataset.json              which backbone, corpus and options made it
//   <split>/<shard>.safetensors   five digits; a shard has the states of documents_per_shard
//                             documents of a split of the corpus
// A shard is written whole or not at all, so that any number of workers make one data set and one
// that was killed is gone on with. Shard tensors, n states and m documents:
//   wkv [n][L][H][N value][N key] f16        after the separator
//   shift [n][L][2][D] f16
//   before.wkv, before.shift                 the same before the separator, when asked for
//   label, document, position [n] i32        document = its index in the split
//   excerpt.document [m] i32
//   excerpt.activations [m][E][T][taps * D] f16   of E excerpts of T tokens of each document
// Files are untrusted: shapes, labels and indices are checked when they are read. No torch here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/state/state.h"
#include "core/tensors/tensor_set.h"
#include "core/training/corpus.h"

namespace dreamstate::training {

struct StateDatasetInfo {
  std::string backbone;  // its fingerprint
  state::Shape shape;
  std::string tokenizer;
  int32_t separator = 0;
  std::string corpus;  // its digest
  std::vector<std::string> labels;
  std::vector<bool> trained;   // [labels]
  std::vector<int> positions;  // tokens that a state has read, ascending
  bool before = false;         // also the states before the separator
  int excerpts = 0;            // of a document
  int excerpt_tokens = 0;
  std::vector<int> taps;  // layers whose residual stream conditions a generator
  int documents_per_shard = 0;
  uint64_t seed = 0;   // of the excerpts
  int shards[3] = {};  // by Split

  int activation_width() const { return static_cast<int>(taps.size()) * shape.width; }
  friend bool operator==(const StateDatasetInfo& a, const StateDatasetInfo& b);
};

// The first tokens of a document's excerpts in its text of so many tokens; empty when it is too
// short for one, or the data set has none.
std::vector<int64_t> ExcerptStarts(const StateDatasetInfo& info, Split split, int64_t document,
                                   int64_t tokens);

// What a state was read from.
struct StateOrigin {
  int32_t label = 0;
  int32_t document = 0;  // index into the split's documents
  int32_t position = 0;  // tokens read
};

struct StateShard {
  std::vector<StateOrigin> origins;        // [n]
  std::vector<int32_t> excerpt_documents;  // [m]
  tensors::TensorSet tensors;              // mapped
};

// Immutable, thread-safe.
class StateDataset {
 public:
  // Begins a data set, or joins one that the same options began. FAILED_PRECONDITION when the
  // directory holds another one.
  static absl::StatusOr<StateDataset> Create(const std::string& directory,
                                             const StateDatasetInfo& info);
  // NOT_FOUND or INVALID_ARGUMENT naming file, expected and found.
  static absl::StatusOr<StateDataset> Open(const std::string& directory);

  const StateDatasetInfo& info() const { return info_; }
  const std::string& directory() const { return directory_; }
  std::string ShardPath(Split split, int shard) const;
  bool HasShard(Split split, int shard) const;
  // FAILED_PRECONDITION saying how many shards of the split are missing.
  absl::Status CheckComplete(Split split) const;
  absl::StatusOr<StateShard> ReadShard(Split split, int shard) const;

 private:
  std::string directory_;
  StateDatasetInfo info_;
};

}  // namespace dreamstate::training
