#include "server/trainer/evaluate_backbone.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/reader.h"
#include "core/repository/format_table.h"
#include "core/repository/repository.h"
#include "core/tensors/import.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::trainer {
namespace {

struct Backbone {
  std::string source;
  std::string tokenizer;  // empty: a file does not say
  int32_t separator_token = 0;
  int64_t parameters = 0;
  std::shared_ptr<const rwkv::Weights> weights;
};

absl::Status LoadWeights(const tensors::TensorSet& set, const EvaluateOptions& options,
                         const rwkv::FormatPolicy& policy, Backbone* backbone) {
  for (const tensors::Tensor& tensor : set.tensors()) backbone->parameters += tensor.elements();
  DS_ASSIGN_OR_RETURN(backbone->weights, rwkv::Weights::Load(set, options.weights, policy));
  return tensors::CheckNothingLost(set);
}

absl::StatusOr<Backbone> LoadCheckpoint(const EvaluateOptions& options) {
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, tensors::ImportBackbone(options.checkpoint));
  Backbone backbone;
  backbone.source = options.checkpoint;
  backbone.separator_token = options.separator_token;
  DS_RETURN_IF_ERROR(LoadWeights(set, options, rwkv::FormatPolicy::Default(), &backbone));
  return backbone;
}

absl::StatusOr<Backbone> LoadVersion(const EvaluateOptions& options) {
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(options.repository));
  int64_t version = options.version.value_or(0);
  if (!options.version.has_value()) {
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers,
                        repository->ListVersionNumbers(options.model));
    version = numbers.front();
  }
  DS_ASSIGN_OR_RETURN(const repository::Manifest manifest,
                      repository->ReadVersion(options.model, version));
  DS_ASSIGN_OR_RETURN(const rwkv::FormatPolicy policy, repository::FormatPolicyOf(manifest));
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set,
                      repository->LoadComponent(manifest, "backbone"));
  Backbone backbone;
  backbone.source = StrCat(options.model, " version ", version);
  backbone.tokenizer = manifest.tokenizer;
  backbone.separator_token = manifest.separator_token;
  DS_RETURN_IF_ERROR(LoadWeights(set, options, policy, &backbone));
  return backbone;
}

absl::Status CheckFits(const Backbone& backbone, const training::Corpus& corpus,
                       const text::Tokenizer& tokenizer) {
  if (!backbone.tokenizer.empty() && backbone.tokenizer != corpus.tokenizer()) {
    return absl::InvalidArgumentError(StrCat("corpus: expected tokens of the tokenizer ",
                                             backbone.tokenizer, " as ", backbone.source,
                                             " has it, found ", corpus.tokenizer()));
  }
  const int vocab = backbone.weights->config.vocab;
  if (tokenizer.vocab_size() > vocab) {
    return absl::InvalidArgumentError(StrCat("corpus: expected a tokenizer of at most ", vocab,
                                             " tokens, as ", backbone.source, " has, found ",
                                             corpus.tokenizer(), " with ", tokenizer.vocab_size()));
  }
  if (backbone.separator_token < 0 || backbone.separator_token >= vocab) {
    return absl::InvalidArgumentError(
        StrCat("separator token: expected 0 to ", vocab - 1, ", found ", backbone.separator_token));
  }
  return absl::OkStatus();
}

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
  DS_ASSIGN_OR_RETURN(const Backbone backbone,
                      options.checkpoint.empty() ? LoadVersion(options) : LoadCheckpoint(options));
  DS_RETURN_IF_ERROR(CheckFits(backbone, *corpus, *tokenizer));
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  kernels::ThreadPool pool(std::max(1, options.threads > 0 ? options.threads : processors));
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
