#include "server/trainer/evaluate_backbone.h"

#include <memory>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/reader.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::trainer {
namespace {

std::string Heading(const BackboneEvaluation& result) {
  return StrCat(result.source, ", ", result.parameters, " parameters, ", result.numerics,
                ", fingerprint ", result.fingerprint);
}

std::vector<evaluation::Table> TablesOf(const BackboneEvaluation& result,
                                        const EvaluateOptions& options) {
  std::vector<evaluation::Table> tables;
  if (result.domains) {
    tables.push_back(evaluation::DomainTable(*result.domains, options.domain_options));
  }
  if (result.states) {
    tables.push_back(evaluation::StateUseTable(*result.states, options.state_options));
    tables.push_back(evaluation::StateUseByLabelTable(*result.states));
  }
  return tables;
}

}  // namespace

absl::StatusOr<BackboneEvaluation> EvaluateBackbone(const EvaluateOptions& options) {
  // A corpus that is not there should not wait for a model to load.
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const training::Corpus> corpus,
                      training::Corpus::Open(options.corpus));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(corpus->tokenizer()));
  DS_ASSIGN_OR_RETURN(const LoadedBackbone backbone,
                      LoadBackbone(options.backbone, options.weights));
  DS_RETURN_IF_ERROR(CheckFits(backbone, *corpus, *tokenizer));
  kernels::ThreadPool pool(ThreadsOf(options.threads));
  evaluation::Reader reader(backbone.weights, {}, pool);
  const evaluation::BackboneUnderTest under_test = {.reader = reader,
                                                    .tokenizer = *tokenizer,
                                                    .separator = backbone.separator_token,
                                                    .corpus = *corpus,
                                                    .progress = options.progress};
  BackboneEvaluation result;
  result.source = backbone.source;
  result.fingerprint = backbone.weights->fingerprint;
  result.numerics = reader.numerics();
  result.parameters = backbone.parameters;
  if (options.domains) {
    DS_ASSIGN_OR_RETURN(result.domains,
                        evaluation::MeasureDomains(under_test, options.domain_options));
  }
  if (options.states) {
    DS_ASSIGN_OR_RETURN(result.states,
                        evaluation::MeasureStateUse(under_test, options.state_options));
  }
  DS_RETURN_IF_ERROR(corpus->CheckNothingLost());
  return result;
}

std::string EvaluationText(const BackboneEvaluation& result, const EvaluateOptions& options) {
  std::string text = Heading(result) + "\n";
  for (const evaluation::Table& table : TablesOf(result, options)) {
    StrAppend(&text, "\n", table.ToText());
  }
  return text;
}

std::string EvaluationMarkdown(const BackboneEvaluation& result, const EvaluateOptions& options) {
  std::string text = Heading(result) + "\n";
  for (const evaluation::Table& table : TablesOf(result, options)) {
    StrAppend(&text, "\n", table.ToMarkdown());
  }
  return text;
}

nlohmann::ordered_json EvaluationJson(const BackboneEvaluation& result,
                                      const EvaluateOptions& options) {
  nlohmann::ordered_json json = {{"source", result.source},
                                 {"fingerprint", result.fingerprint},
                                 {"numerics", result.numerics},
                                 {"parameters", result.parameters}};
  if (result.domains) {
    json["domains"] = evaluation::DomainJson(*result.domains, options.domain_options);
  }
  if (result.states) {
    json["states"] = evaluation::StateUseJson(*result.states, options.state_options);
  }
  return json;
}

}  // namespace dreamstate::trainer
