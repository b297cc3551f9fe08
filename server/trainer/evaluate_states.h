// Describes a data set of states head by head, and measures what of the states' worth is left when
// part of them is thrown away (core/evaluation/state_statistics.h and truncation_cost.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/chosen_states.h"
#include "core/evaluation/progress.h"
#include "core/evaluation/state_statistics.h"
#include "core/evaluation/state_statistics_picture.h"
#include "core/evaluation/truncation_cost.h"
#include "core/rwkv/weights.h"
#include "nlohmann/json.hpp"
#include "server/trainer/load_backbone.h"

namespace dreamstate::trainer {

struct EvaluateStatesOptions {
  std::string states;  // directory of the data set
  evaluation::StateChoice choice;
  // What the worth is measured with; without a corpus it is not measured. Both must be those that
  // the data set was made of.
  BackboneChoice backbone;
  std::string corpus;  // directory
  rwkv::WeightFormat weights = rwkv::WeightFormat::kFloat32;
  int threads = 0;                            // 0 = every processor
  evaluation::StateUseOptions state_options;  // split and position are the choice's
  evaluation::StageProgress progress = {};
};

struct StatesEvaluation {
  std::string backbone;  // the fingerprint that the data set names
  evaluation::StateStatistics heads;
  std::string numerics;  // of the backbone; empty without a corpus
  std::optional<evaluation::TruncationCost> truncation;
};

// Errors name the option or the file. FAILED_PRECONDITION when backbone or corpus are not the data
// set's.
absl::StatusOr<StatesEvaluation> EvaluateStates(const EvaluateStatesOptions& options);

std::string StatesText(const StatesEvaluation& result, const EvaluateStatesOptions& options);
std::string StatesMarkdown(const StatesEvaluation& result, const EvaluateStatesOptions& options);
nlohmann::ordered_json StatesJson(const StatesEvaluation& result,
                                  const EvaluateStatesOptions& options);

}  // namespace dreamstate::trainer
