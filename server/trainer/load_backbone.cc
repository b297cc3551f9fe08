#include "server/trainer/load_backbone.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/format_table.h"
#include "core/repository/repository.h"
#include "core/tensors/import.h"

namespace dreamstate::trainer {
namespace {

absl::Status LoadWeights(const tensors::TensorSet& set, rwkv::WeightFormat format,
                         const rwkv::FormatPolicy& policy, LoadedBackbone* backbone) {
  for (const tensors::Tensor& tensor : set.tensors()) backbone->parameters += tensor.elements();
  DS_ASSIGN_OR_RETURN(backbone->weights, rwkv::Weights::Load(set, format, policy));
  return tensors::CheckNothingLost(set);
}

absl::StatusOr<LoadedBackbone> LoadCheckpoint(const BackboneChoice& choice,
                                              rwkv::WeightFormat weights) {
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, tensors::ImportBackbone(choice.checkpoint));
  LoadedBackbone backbone;
  backbone.source = choice.checkpoint;
  backbone.separator_token = choice.separator_token;
  DS_RETURN_IF_ERROR(LoadWeights(set, weights, rwkv::FormatPolicy::Default(), &backbone));
  return backbone;
}

absl::StatusOr<LoadedBackbone> LoadVersion(const BackboneChoice& choice,
                                           rwkv::WeightFormat weights) {
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(choice.repository));
  int64_t version = choice.version.value_or(0);
  if (!choice.version.has_value()) {
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers,
                        repository->ListVersionNumbers(choice.model));
    version = numbers.front();
  }
  DS_ASSIGN_OR_RETURN(const repository::Manifest manifest,
                      repository->ReadVersion(choice.model, version));
  DS_ASSIGN_OR_RETURN(const rwkv::FormatPolicy policy, repository::FormatPolicyOf(manifest));
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set,
                      repository->LoadComponent(manifest, "backbone"));
  LoadedBackbone backbone;
  backbone.source = StrCat(choice.model, " version ", version);
  backbone.tokenizer = manifest.tokenizer;
  backbone.separator_token = manifest.separator_token;
  DS_RETURN_IF_ERROR(LoadWeights(set, weights, policy, &backbone));
  return backbone;
}

}  // namespace

void AddBackboneOptions(CLI::App& command, BackboneChoice* choice) {
  CLI::Option* repository =
      command.add_option("--repository", choice->repository, "Model repository");
  CLI::Option* model =
      command.add_option("--model", choice->model, "Name of its model")->needs(repository);
  repository->needs(model);
  command.add_option("--version", choice->version, "Its version; by default the newest")
      ->needs(model);
  CLI::Option* checkpoint =
      command.add_option("--checkpoint", choice->checkpoint, "A model's file instead")
          ->excludes(repository);
  command
      .add_option("--separator-token", choice->separator_token,
                  "Token between two texts, of a file's model")
      ->needs(checkpoint)
      ->capture_default_str();
  command.callback([repository, checkpoint] {
    if (repository->count() + checkpoint->count() > 0) return;
    throw CLI::ValidationError("--repository",
                               "expected --repository and --model, or --checkpoint, found neither");
  });
}

absl::StatusOr<LoadedBackbone> LoadBackbone(const BackboneChoice& choice,
                                            rwkv::WeightFormat weights) {
  return choice.checkpoint.empty() ? LoadVersion(choice, weights) : LoadCheckpoint(choice, weights);
}

absl::Status CheckFits(const LoadedBackbone& backbone, const training::Corpus& corpus,
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

int ThreadsOf(int wanted) {
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, wanted > 0 ? wanted : processors);
}

}  // namespace dreamstate::trainer
