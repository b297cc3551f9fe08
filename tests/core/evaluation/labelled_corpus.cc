#include "tests/core/evaluation/labelled_corpus.h"

#include <cstdint>
#include <stdexcept>

#include "core/base/file.h"
#include "core/base/strings.h"
#include "core/training/token_file.h"
#include "nlohmann/json.hpp"

namespace dreamstate::testing {
namespace {

void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

}  // namespace

void WriteCorpus(const std::string& directory, const LabelledTexts& texts) {
  std::map<std::string, bool> labels;  // whether it is trained
  for (const auto& [split, documents] : texts) {
    for (const LabelledText& document : documents) labels[document.label] |= split == "train";
  }
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [label, trained] : labels) {
    list.push_back({{"name", label}, {"trained", trained}});
  }
  Check(WriteFileAtomically(
      directory + "/corpus.json",
      nlohmann::json{{"schema", 1}, {"tokenizer", "byte"}, {"labels", list}}.dump()));
  for (const char* split : {"train", "valid", "test"}) {
    std::vector<uint16_t> tokens;
    std::vector<int32_t> sizes;
    std::string lines;
    const auto found = texts.find(split);
    if (found != texts.end()) {
      for (const LabelledText& document : found->second) {
        const nlohmann::json line = {{"label", document.label},
                                     {"name", StrCat("document ", sizes.size())},
                                     {"begin", tokens.size()},
                                     {"tokens", document.text.size()}};
        StrAppend(&lines, line.dump(), "\n");
        tokens.insert(tokens.end(), document.text.begin(), document.text.end());
        tokens.push_back(0);
        sizes.push_back(static_cast<int32_t>(document.text.size()) + 1);
      }
    }
    const std::string stem = StrCat(directory, "/", split);
    Check(training::WriteTokenFile(stem, tokens, sizes));
    Check(WriteFileAtomically(stem + ".documents.jsonl", lines));
  }
}

}  // namespace dreamstate::testing
