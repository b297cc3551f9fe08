// A corpus on disk, as `dreamstate-trainer corpus` writes it. A directory holds, for each split of
// train, valid and test:
//   <split>.bin .idx          tokens and their index as RWKV-LM reads them (spec section 3.5):
//   uint16,
//                             document after document, each ended by token 0
//   <split>.documents.jsonl   one line a document, in order: {"label", "name", "begin", "tokens"}
// and corpus.json (tokenizer, labels, which labels are trained on, counts), CARD.md and card.json.
// Files are untrusted: every offset, label and token is checked when opened. Immutable,
// thread-safe; the tokens are mapped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dreamstate::training {

enum class Split { kTrain, kValid, kTest };
std::string_view SplitName(Split split);

struct Document {
  int32_t label = 0;   // index into Corpus::labels()
  int64_t begin = 0;   // of its first token in the split's tokens
  int64_t tokens = 0;  // without the end token
  std::string name;
};

class Corpus {
 public:
  // NOT_FOUND or INVALID_ARGUMENT naming file, expected and found.
  static absl::StatusOr<std::shared_ptr<const Corpus>> Open(const std::string& directory);

  const std::string& tokenizer() const { return tokenizer_; }         // "byte" or "world"
  const std::vector<std::string>& labels() const { return labels_; }  // sorted
  // Whether a label's documents are in the training split ("shifted" labels are not).
  bool trained(int32_t label) const { return trained_[label]; }
  const std::vector<Document>& documents(Split split) const {
    return documents_[static_cast<int>(split)];
  }
  // The tokens of a whole split, end tokens included.
  std::span<const uint16_t> tokens(Split split) const { return tokens_[static_cast<int>(split)]; }
  // The tokens of one document, without its end token.
  std::span<const uint16_t> tokens(Split split, const Document& document) const {
    return tokens(split).subspan(document.begin, document.tokens);
  }

  // Of corpus.json, which holds the hashes of the other files.
  const std::string& digest() const { return digest_; }
  // DATA_LOSS naming the split when tokens were read that its file no longer had, because somebody
  // cut it: they read as zeros. Cheap: ask after reading.
  absl::Status CheckNothingLost() const;

 private:
  Corpus() = default;
  std::string directory_;
  std::string digest_;
  std::string tokenizer_;
  std::vector<std::string> labels_;
  std::vector<bool> trained_;
  std::vector<Document> documents_[3];
  std::span<const uint16_t> tokens_[3];
  std::shared_ptr<const void> memory_[3];
};

}  // namespace dreamstate::training
