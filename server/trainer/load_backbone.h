// A backbone that a command reads texts with: one of a repository, or a file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/rwkv/weights.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"

namespace dreamstate::trainer {

struct BackboneChoice {
  // Either a version of a repository's model (none: the newest) …
  std::string repository;
  std::string model;
  std::optional<int64_t> version;
  // … or a file with official names.
  std::string checkpoint;
  int32_t separator_token = 0;  // of a checkpoint; a manifest says its own
};

struct LoadedBackbone {
  std::string source;     // "starter version 3", or the file
  std::string tokenizer;  // empty: a file does not say
  int32_t separator_token = 0;
  int64_t parameters = 0;
  std::shared_ptr<const rwkv::Weights> weights;
};

// Adds --repository, --model, --version, --checkpoint and --separator-token.
void AddBackboneOptions(CLI::App& command, BackboneChoice* choice);

absl::StatusOr<LoadedBackbone> LoadBackbone(const BackboneChoice& choice,
                                            rwkv::WeightFormat weights);

// INVALID_ARGUMENT when the corpus's tokens are not the backbone's.
absl::Status CheckFits(const LoadedBackbone& backbone, const training::Corpus& corpus,
                       const text::Tokenizer& tokenizer);

// 0 = every processor.
int ThreadsOf(int wanted);

}  // namespace dreamstate::trainer
