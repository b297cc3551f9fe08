// Corpora for tests of evaluations: documents of random letters, written as `dreamstate-trainer
// corpus` writes them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/draws.h"
#include "core/training/corpus.h"

namespace dreamstate::testing {

struct LabelledText {
  std::string label;
  std::string text;
};
// By split: "train", "valid", "test". A label that is in no training document is a shifted one.
using LabelledTexts = std::map<std::string, std::vector<LabelledText>>;

// Writes a byte-level corpus into an existing directory.
void WriteCorpus(const std::string& directory, const LabelledTexts& texts);

// `length` of `letters`, each as likely.
inline std::string RandomText(Draws& draws, std::string_view letters, int length) {
  std::string text;
  while (static_cast<int>(text.size()) < length) {
    text += letters[draws.Below(static_cast<uint32_t>(letters.size()))];
  }
  return text;
}

}  // namespace dreamstate::testing
