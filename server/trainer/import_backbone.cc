#include "server/trainer/import_backbone.h"

#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "core/tensors/import.h"
#include "core/text/tokenizer.h"
#include "server/trainer/self_test.h"

namespace dreamstate::trainer {
namespace {

absl::Status CheckToken(std::string_view option, int32_t token, int vocab) {
  if (token >= 0 && token < vocab) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(option, ": expected 0 to ", vocab - 1, ", found ", token));
}

// Sizes, for people; a reader takes them from the tensors.
nlohmann::json DescribeConfig(const rwkv::Config& config, int64_t parameters,
                              const tensors::TensorSet& set) {
  const tensors::Tensor* embedding = set.Find("emb.weight");
  return {
      {"architecture", "rwkv7"},
      {"layers", config.layers},
      {"width", config.width},
      {"heads", config.heads},
      {"head_size", config.head_size},
      {"vocab", config.vocab},
      {"ffn_width", config.ffn_width},
      {"rank_decay", config.rank_decay},
      {"rank_iclr", config.rank_iclr},
      {"rank_value", config.rank_value},
      {"rank_gate", config.rank_gate},
      {"parameters", parameters},
      {"dtype", embedding == nullptr ? "" : std::string(tensors::DTypeName(embedding->dtype))},
  };
}

}  // namespace

absl::StatusOr<Imported> ImportBackbone(const ImportOptions& options) {
  DS_RETURN_IF_ERROR(repository::ValidateModelName(options.name));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(options.tokenizer));
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, tensors::ImportBackbone(options.file));
  Imported imported;
  DS_ASSIGN_OR_RETURN(imported.config, rwkv::Config::FromTensors(set));
  for (const tensors::Tensor& tensor : set.tensors()) imported.parameters += tensor.elements();
  const int vocab = imported.config.vocab;
  if (tokenizer->vocab_size() != vocab) {
    return absl::InvalidArgumentError(StrCat("tokenizer: expected one for a vocabulary of ", vocab,
                                             ", found ", tokenizer->name(), " with ",
                                             tokenizer->vocab_size(), " (", options.file, ")"));
  }
  DS_RETURN_IF_ERROR(CheckToken("end token", options.end_token, vocab));
  DS_RETURN_IF_ERROR(CheckToken("separator token", options.separator_token, vocab));

  repository::Manifest& manifest = imported.manifest;
  manifest.model = options.name;
  manifest.tokenizer = options.tokenizer;
  manifest.end_token = options.end_token;
  manifest.separator_token = options.separator_token;
  manifest.chat_template = options.chat_template;
  std::vector<int32_t> tokens = {options.separator_token};
  tokenizer->Encode(options.self_test_text, &tokens);
  DS_ASSIGN_OR_RETURN(manifest.self_test, MakeSelfTest(set, std::move(tokens)));

  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Create(options.repository));
  DS_ASSIGN_OR_RETURN(
      manifest,
      repository->Publish(std::move(manifest),
                          {{.kind = "backbone",
                            .tensors = &set,
                            .config = DescribeConfig(imported.config, imported.parameters, set)}}));
  return imported;
}

}  // namespace dreamstate::trainer
