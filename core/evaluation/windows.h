// Which texts the worth of states is measured on: one window of each of some test documents, and
// for each label training documents whose states stand for the label. Seeded; the same corpus and
// options give the same choice.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"

namespace dreamstate::evaluation {

struct WindowOptions {
  training::Split split = training::Split::kTest;  // of the windows; not kTrain
  int position = 512;                              // tokens of its document that a state has read
  int length = 256;                                // tokens scored behind them
  int windows_per_label = 16;                      // at most; a document has one
  int label_documents = 40;                        // training documents a label, at most
  uint64_t seed = 0;
};

// A window of a document: what is scored, and what came before it.
struct Window {
  int32_t label = 0;             // index into WindowChoice::labels
  std::vector<int32_t> context;  // [position]
  std::vector<int32_t> scored;   // [length]
  std::vector<int32_t> bytes;    // [length], that the scored tokens stand for
};

struct WindowLabel {
  std::string name;
  // The first `position` tokens of training documents.
  std::vector<std::vector<int32_t>> documents;
};

struct WindowChoice {
  std::vector<WindowLabel> labels;
  std::vector<Window> windows;        // label after label
  std::vector<std::string> left_out;  // trained labels without a window or with one document
};

// Only labels that are trained on. INVALID_ARGUMENT naming an option that makes no sense;
// FAILED_PRECONDITION when fewer than two labels have long enough documents.
absl::StatusOr<WindowChoice> ChooseWindows(const training::Corpus& corpus,
                                           const text::Tokenizer& tokenizer,
                                           const WindowOptions& options);

}  // namespace dreamstate::evaluation
