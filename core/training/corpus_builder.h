// Makes a corpus (core/training/corpus.h) from a folder of folders: one label a folder, one
// document a file. Deterministic: same files, options and seed, same bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace dreamstate::training {

struct CorpusOptions {
  std::string tokenizer = "byte";
  // Of a longer file one piece at a random place is taken, so that heads of files (licences) do not
  // dominate. 0 = whole files.
  int64_t slice_bytes = 24 * 1024;
  int64_t min_bytes = 2048;               // shorter files are left out
  int64_t label_bytes = 4 * 1024 * 1024;  // documents of a label, in random order, until so many
  double valid_share = 0.04;
  double test_share = 0.12;
  // Labels that are in valid and test only, for measuring on what was never trained on. A label
  // folder whose name begins with "x_" is one, too.
  std::vector<std::string> untrained;
  // Documents that share more than so much of their text (Jaccard similarity of 24-byte pieces,
  // estimated) are the same document to the splits: the one in test stays, or else that in valid.
  double near_duplicate = 0.5;
  uint64_t seed = 0;
};

struct LabelReport {
  std::string label;
  int64_t documents[3] = {};  // by Split
  int64_t bytes[3] = {};
  int64_t duplicates = 0;       // left out: the same bytes as another document
  int64_t near_duplicates = 0;  // left out: nearly those of another document
  int64_t with_zero = 0;        // left out: byte 0, which ends documents, is in them
  int64_t too_short = 0;
};

// `progress` is told of each label once it is read. `source.json` in a label's folder (an object:
// source, version, licence) goes into the card. Errors name the file; a `to` that exists and is not
// empty is FAILED_PRECONDITION.
absl::StatusOr<std::vector<LabelReport>> BuildCorpus(
    const std::string& from, const std::string& to, const CorpusOptions& options,
    const std::function<void(const std::string& label, int64_t documents, int64_t bytes)>&
        progress);

}  // namespace dreamstate::training
