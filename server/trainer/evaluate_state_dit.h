// Measures a state DiT on a corpus: what the states are worth that it makes, and whether they are
// like real ones, beside references and controls (core/evaluation/generated_conditions.h and
// generated_fidelity.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/evaluation/generated_fidelity.h"
#include "core/evaluation/generated_states.h"
#include "core/evaluation/progress.h"
#include "core/evaluation/state_use.h"
#include "core/rwkv/weights.h"
#include "nlohmann/json.hpp"

namespace dreamstate::trainer {

struct EvaluateStateDitOptions {
  std::string repository;
  std::string model;
  std::optional<int64_t> version;  // none: the newest
  std::string corpus;              // directory
  rwkv::WeightFormat weights = rwkv::WeightFormat::kFloat32;
  int threads = 0;  // 0 = every processor
  evaluation::StateUseOptions state_options;
  // What is measured. Edits are a table in place of use's.
  bool use = true, fidelity = true, edits = false;
  evaluation::GeneratedOptions generated;  // labels and taps are the model's own
  evaluation::StageProgress progress = {};
};

struct StateDitEvaluation {
  std::string source;       // "starter version 3"
  std::string fingerprint;  // of the state DiT
  int64_t parameters = 0;
  std::string numerics;      // of the backbone
  evaluation::StateUse use;  // without rows when it was not asked for
  std::optional<evaluation::GeneratedFidelity> fidelity;
};

// Errors name the option or the file. FAILED_PRECONDITION when the version has no state DiT.
absl::StatusOr<StateDitEvaluation> EvaluateStateDit(const EvaluateStateDitOptions& options);

std::string StateDitText(const StateDitEvaluation& result, const EvaluateStateDitOptions& options);
std::string StateDitMarkdown(const StateDitEvaluation& result,
                             const EvaluateStateDitOptions& options);
nlohmann::ordered_json StateDitJson(const StateDitEvaluation& result,
                                    const EvaluateStateDitOptions& options);

}  // namespace dreamstate::trainer
