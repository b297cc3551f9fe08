#include "server/trainer/evaluate_state_dit.h"

#include <memory>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/state_generator.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/edited_conditions.h"
#include "core/evaluation/fidelity.h"
#include "core/evaluation/generated_conditions.h"
#include "core/evaluation/reader.h"
#include "core/repository/repository.h"
#include "core/text/tokenizer.h"
#include "core/training/corpus.h"
#include "kernels/runtime/thread_pool.h"
#include "server/trainer/load_backbone.h"

namespace dreamstate::trainer {
namespace {

struct LoadedDit {
  int64_t version = 0;
  std::string fingerprint;
  int64_t parameters = 0;
  std::unique_ptr<const diffusion::StateGenerator> generator;
};

absl::StatusOr<LoadedDit> LoadDit(const EvaluateStateDitOptions& options,
                                  evaluation::GeneratedOptions* generated) {
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(options.repository));
  LoadedDit loaded;
  loaded.version = options.version.value_or(0);
  if (!options.version.has_value()) {
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers,
                        repository->ListVersionNumbers(options.model));
    loaded.version = numbers.front();
  }
  DS_ASSIGN_OR_RETURN(const repository::Manifest manifest,
                      repository->ReadVersion(options.model, loaded.version));
  const repository::Component* component = manifest.Find("state_dit");
  if (component == nullptr) {
    return absl::FailedPreconditionError(
        StrCat(options.model, " version ", loaded.version, ": expected a state DiT, found none"));
  }
  try {
    component->config.at("labels").get_to(generated->labels);
    component->config.at("taps").get_to(generated->taps);
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError(StrCat(options.model, " version ", loaded.version,
                                             ": expected the labels and taps of its state DiT"));
  }
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set,
                      repository->LoadComponent(manifest, "state_dit"));
  for (const tensors::Tensor& tensor : set.tensors()) {
    if (tensor.name.starts_with("dit.")) loaded.parameters += tensor.elements();
  }
  loaded.fingerprint = component->digest;
  DS_ASSIGN_OR_RETURN(loaded.generator, diffusion::StateGenerator::Load(set, /*bf16=*/true));
  return loaded;
}

std::string Heading(const StateDitEvaluation& result) {
  return StrCat(result.source, ", state DiT of ", result.parameters, " parameters, fingerprint ",
                result.fingerprint, "; backbone ", result.numerics);
}

std::vector<evaluation::Table> TablesOf(const StateDitEvaluation& result,
                                        const EvaluateStateDitOptions& options) {
  std::vector<evaluation::Table> tables;
  if (options.use || options.edits) {
    tables.push_back(evaluation::StateUseTable(result.use, options.state_options));
  }
  if (result.fidelity) {
    tables.push_back(
        evaluation::FidelityTable(result.fidelity->rows, result.fidelity->variance_share, {}));
  }
  return tables;
}

}  // namespace

absl::StatusOr<StateDitEvaluation> EvaluateStateDit(const EvaluateStateDitOptions& options) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const training::Corpus> corpus,
                      training::Corpus::Open(options.corpus));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(corpus->tokenizer()));
  evaluation::GeneratedOptions generated = options.generated;
  DS_ASSIGN_OR_RETURN(const LoadedDit dit, LoadDit(options, &generated));
  DS_ASSIGN_OR_RETURN(const LoadedBackbone backbone, LoadBackbone({.repository = options.repository,
                                                                   .model = options.model,
                                                                   .version = dit.version,
                                                                   .checkpoint = {}},
                                                                  options.weights));
  DS_RETURN_IF_ERROR(CheckFits(backbone, *corpus, *tokenizer));
  if (dit.generator->codec().shape() != state::Shape::Of(backbone.weights->config)) {
    return absl::InvalidArgumentError(StrCat(
        backbone.source, ": the state DiT makes states of another shape than the backbone's"));
  }
  kernels::ThreadPool pool(ThreadsOf(options.threads));
  evaluation::Reader reader(backbone.weights, {}, pool);
  rwkv::Engine engine(backbone.weights, {.max_tokens = 1024, .max_sequences = 32, .slots = 32},
                      pool);
  const evaluation::BackboneUnderTest under_test = {.reader = reader,
                                                    .tokenizer = *tokenizer,
                                                    .separator = backbone.separator_token,
                                                    .corpus = *corpus,
                                                    .progress = options.progress};
  StateDitEvaluation result;
  result.source = backbone.source;
  result.fingerprint = dit.fingerprint;
  result.parameters = dit.parameters;
  result.numerics = reader.numerics();
  DS_ASSIGN_OR_RETURN(
      result.use,
      evaluation::MeasureStateUse(
          under_test, options.state_options,
          [&](const evaluation::StatesUnderTest& states)
              -> absl::StatusOr<std::vector<evaluation::ConditionSection>> {
            DS_ASSIGN_OR_RETURN(const auto sources, evaluation::GenerationSources::Make(
                                                        states, backbone.separator_token,
                                                        *dit.generator, engine, generated));
            if (options.fidelity) {
              DS_ASSIGN_OR_RETURN(result.fidelity, evaluation::MeasureGeneratedFidelity(
                                                       sources, {.seed = generated.seed}));
            }
            if (options.edits) {
              return evaluation::MakeEditedConditions(sources, backbone.separator_token);
            }
            if (!options.use) return std::vector<evaluation::ConditionSection>();
            return evaluation::MakeGeneratedConditions(sources, backbone.separator_token);
          }));
  DS_RETURN_IF_ERROR(corpus->CheckNothingLost());
  return result;
}

std::string StateDitText(const StateDitEvaluation& result, const EvaluateStateDitOptions& options) {
  std::string text = Heading(result) + "\n";
  for (const evaluation::Table& table : TablesOf(result, options)) {
    StrAppend(&text, "\n", table.ToText());
  }
  return text;
}

std::string StateDitMarkdown(const StateDitEvaluation& result,
                             const EvaluateStateDitOptions& options) {
  std::string text = Heading(result) + "\n";
  for (const evaluation::Table& table : TablesOf(result, options)) {
    StrAppend(&text, "\n", table.ToMarkdown());
  }
  return text;
}

nlohmann::ordered_json StateDitJson(const StateDitEvaluation& result,
                                    const EvaluateStateDitOptions& options) {
  nlohmann::ordered_json json = {{"source", result.source},
                                 {"fingerprint", result.fingerprint},
                                 {"parameters", result.parameters},
                                 {"numerics", result.numerics}};
  if (options.use || options.edits)
    json["states"] = evaluation::StateUseJson(result.use, options.state_options);
  if (result.fidelity) {
    json["fidelity"] = {{"variance_share", result.fidelity->variance_share},
                        {"states", evaluation::FidelityJson(result.fidelity->rows)}};
  }
  return json;
}

}  // namespace dreamstate::trainer
