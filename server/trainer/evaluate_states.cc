#include "server/trainer/evaluate_states.h"

#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/reader.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"
#include "core/training/state_dataset.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::trainer {
namespace {

evaluation::StateUseOptions UseOptions(const EvaluateStatesOptions& options) {
  evaluation::StateUseOptions use = options.state_options;
  use.windows.split = options.choice.split;
  use.windows.position = options.choice.position;
  use.foreign_draws = 1;  // as many as there are rows of them
  return use;
}

std::string Heading(const StatesEvaluation& result) {
  std::string heading = StrCat("States of the backbone ", result.backbone);
  if (!result.numerics.empty()) StrAppend(&heading, ", ", result.numerics);
  return heading;
}

std::vector<evaluation::Table> TablesOf(const StatesEvaluation& result,
                                        const EvaluateStatesOptions& options) {
  std::vector<evaluation::Table> tables = {
      evaluation::StateStatisticsTable(result.heads, options.choice)};
  if (result.truncation) {
    tables.push_back(evaluation::TruncationTable(*result.truncation, UseOptions(options)));
  }
  return tables;
}

absl::Status MeasureTruncation(const EvaluateStatesOptions& options,
                               const training::StateDatasetInfo& info, StatesEvaluation* result) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const training::Corpus> corpus,
                      training::Corpus::Open(options.corpus));
  if (corpus->digest() != info.corpus) {
    return absl::FailedPreconditionError(StrCat(options.corpus, ": expected the corpus that ",
                                                options.states, " was made of, found another one"));
  }
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(corpus->tokenizer()));
  DS_ASSIGN_OR_RETURN(const LoadedBackbone backbone,
                      LoadBackbone(options.backbone, options.weights));
  DS_RETURN_IF_ERROR(CheckFits(backbone, *corpus, *tokenizer));
  if (backbone.weights->fingerprint != info.backbone) {
    return absl::FailedPreconditionError(StrCat(backbone.source, ": expected the backbone ",
                                                info.backbone, " of ", options.states, ", found ",
                                                backbone.weights->fingerprint));
  }
  kernels::ThreadPool pool(ThreadsOf(options.threads));
  evaluation::Reader reader(backbone.weights, {}, pool);
  const evaluation::BackboneUnderTest under_test = {.reader = reader,
                                                    .tokenizer = *tokenizer,
                                                    .separator = backbone.separator_token,
                                                    .corpus = *corpus,
                                                    .progress = options.progress};
  result->numerics = reader.numerics();
  DS_ASSIGN_OR_RETURN(result->truncation,
                      evaluation::MeasureTruncation(under_test, UseOptions(options)));
  return corpus->CheckNothingLost();
}

}  // namespace

absl::StatusOr<StatesEvaluation> EvaluateStates(const EvaluateStatesOptions& options) {
  DS_ASSIGN_OR_RETURN(const training::StateDataset dataset,
                      training::StateDataset::Open(options.states));
  StatesEvaluation result;
  result.backbone = dataset.info().backbone;
  {
    DS_ASSIGN_OR_RETURN(const evaluation::ChosenStates states,
                        evaluation::ChooseStates(dataset, options.choice));
    DS_ASSIGN_OR_RETURN(result.heads, evaluation::StatisticsOf(states));
  }
  if (!options.corpus.empty()) {
    DS_RETURN_IF_ERROR(MeasureTruncation(options, dataset.info(), &result));
  }
  return result;
}

std::string StatesText(const StatesEvaluation& result, const EvaluateStatesOptions& options) {
  std::string text = Heading(result) + "\n";
  for (const evaluation::Table& table : TablesOf(result, options)) {
    StrAppend(&text, "\n", table.ToText());
  }
  return text;
}

std::string StatesMarkdown(const StatesEvaluation& result, const EvaluateStatesOptions& options) {
  std::string text = Heading(result) + "\n";
  for (const evaluation::Table& table : TablesOf(result, options)) {
    StrAppend(&text, "\n", table.ToMarkdown());
  }
  return text;
}

nlohmann::ordered_json StatesJson(const StatesEvaluation& result,
                                  const EvaluateStatesOptions& options) {
  nlohmann::ordered_json json = {
      {"backbone", result.backbone},
      {"heads", evaluation::StateStatisticsJson(result.heads, options.choice)}};
  if (result.truncation) {
    json["numerics"] = result.numerics;
    json["truncation"] = evaluation::TruncationJson(*result.truncation, UseOptions(options));
  }
  return json;
}

}  // namespace dreamstate::trainer
