#include "core/evaluation/windows.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::evaluation {
namespace {

constexpr uint32_t kWindowStream = 0x57494e44;  // "WIND"
constexpr uint32_t kLabelStream = 0x4c41424c;   // "LABL"

absl::Status AtLeast(std::string_view option, int least, int found) {
  if (found >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(option, ": expected at least ", least, ", found ", found));
}

// By label, the documents of a split that have so many tokens.
std::vector<std::vector<const training::Document*>> LongDocuments(const training::Corpus& corpus,
                                                                  training::Split split,
                                                                  int64_t tokens) {
  std::vector<std::vector<const training::Document*>> by_label(corpus.labels().size());
  for (const training::Document& document : corpus.documents(split)) {
    if (document.tokens >= tokens) by_label[document.label].push_back(&document);
  }
  return by_label;
}

std::vector<int32_t> Copy(std::span<const uint16_t> tokens) {
  return {tokens.begin(), tokens.end()};
}

}  // namespace

absl::StatusOr<WindowChoice> ChooseWindows(const training::Corpus& corpus,
                                           const text::Tokenizer& tokenizer,
                                           const WindowOptions& options) {
  DS_RETURN_IF_ERROR(AtLeast("position", 1, options.position));
  DS_RETURN_IF_ERROR(AtLeast("length", 1, options.length));
  DS_RETURN_IF_ERROR(AtLeast("windows_per_label", 1, options.windows_per_label));
  DS_RETURN_IF_ERROR(AtLeast("label_documents", 2, options.label_documents));
  if (options.split == training::Split::kTrain) {
    return absl::InvalidArgumentError(
        "split: expected valid or test, found train, whose documents the states come from");
  }
  const auto position = static_cast<size_t>(options.position);
  const auto length = static_cast<size_t>(options.length);
  const auto tested =
      LongDocuments(corpus, options.split, int64_t{options.position} + options.length);
  const auto known = LongDocuments(corpus, training::Split::kTrain, options.position);
  WindowChoice choice;
  for (int32_t label = 0; label < static_cast<int32_t>(corpus.labels().size()); ++label) {
    if (!corpus.trained(label)) continue;
    const auto number = static_cast<uint32_t>(label);
    if (tested[label].empty() || known[label].size() < 2) {
      choice.left_out.push_back(corpus.labels()[label]);
      continue;
    }
    WindowLabel& chosen = choice.labels.emplace_back();
    chosen.name = corpus.labels()[label];
    Draws label_draws(options.seed, kLabelStream, number);
    for (const int32_t index :
         label_draws.Choose(options.label_documents, static_cast<int32_t>(known[label].size()))) {
      const auto tokens = corpus.tokens(training::Split::kTrain, *known[label][index]);
      chosen.documents.push_back(Copy(tokens.first(position)));
    }
    Draws window_draws(options.seed, kWindowStream, number);
    for (const int32_t index : window_draws.Choose(options.windows_per_label,
                                                   static_cast<int32_t>(tested[label].size()))) {
      const auto tokens = corpus.tokens(options.split, *tested[label][index]);
      Window& window = choice.windows.emplace_back();
      window.label = static_cast<int32_t>(choice.labels.size()) - 1;
      window.context = Copy(tokens.first(position));
      window.scored = Copy(tokens.subspan(position, length));
      for (const int32_t token : window.scored) {
        window.bytes.push_back(static_cast<int32_t>(tokenizer.Decode(token).size()));
      }
    }
  }
  if (choice.labels.size() < 2) {
    return absl::FailedPreconditionError(StrCat(
        "corpus: expected at least 2 trained labels with a ", training::SplitName(options.split),
        " document of ", options.position + options.length, " tokens and 2 training documents of ",
        options.position, ", found ", choice.labels.size()));
  }
  return choice;
}

}  // namespace dreamstate::evaluation
