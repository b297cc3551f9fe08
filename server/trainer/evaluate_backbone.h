// Measures a backbone on a corpus: bits per byte by domain, and what initial states are worth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/evaluation/domain_losses.h"
#include "core/evaluation/progress.h"
#include "core/evaluation/state_use.h"
#include "core/rwkv/weights.h"
#include "nlohmann/json.hpp"
#include "server/trainer/load_backbone.h"

namespace dreamstate::trainer {

struct EvaluateOptions {
  BackboneChoice backbone;
  std::string corpus;  // directory
  rwkv::WeightFormat weights = rwkv::WeightFormat::kFloat32;
  int threads = 0;  // 0 = every processor
  bool domains = true, states = true;
  evaluation::DomainOptions domain_options;
  evaluation::StateUseOptions state_options;
  evaluation::StageProgress progress = {};
};

struct BackboneEvaluation {
  std::string source;  // "starter version 3", or the file
  std::string fingerprint;
  std::string numerics;  // as rwkv::Engine::numerics
  int64_t parameters = 0;
  std::optional<evaluation::DomainLosses> domains;
  std::optional<evaluation::StateUse> states;
};

// Errors name the option or the file, expected and found.
absl::StatusOr<BackboneEvaluation> EvaluateBackbone(const EvaluateOptions& options);

// The tables one after another, and all figures.
std::string EvaluationText(const BackboneEvaluation& result, const EvaluateOptions& options);
std::string EvaluationMarkdown(const BackboneEvaluation& result, const EvaluateOptions& options);
nlohmann::ordered_json EvaluationJson(const BackboneEvaluation& result,
                                      const EvaluateOptions& options);

}  // namespace dreamstate::trainer
