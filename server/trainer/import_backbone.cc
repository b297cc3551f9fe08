#include "server/trainer/import_backbone.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/memory.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/format_table.h"
#include "core/repository/repository.h"
#include "core/tensors/import.h"
#include "core/text/tokenizer.h"
#include "server/trainer/format_table.h"
#include "server/trainer/self_test.h"

namespace dreamstate::trainer {
namespace {

absl::Status CheckToken(std::string_view option, int32_t token, int vocab) {
  if (token >= 0 && token < vocab) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(option, ": expected 0 to ", vocab - 1, ", found ", token));
}

// Models of the World vocabulary have some ids more than it.
constexpr int kLeastWorldVocab = 65530;
constexpr int kMostWorldVocab = 65536;
constexpr std::string_view kWorldChatTemplate = "User: {user}\n\nAssistant:";

bool HasWorldVocab(int vocab) { return vocab >= kLeastWorldVocab && vocab <= kMostWorldVocab; }

// The one that was asked for, or else the one that a model of this vocabulary was trained with.
absl::StatusOr<std::unique_ptr<const text::Tokenizer>> TokenizerFor(const ImportOptions& options,
                                                                    int vocab) {
  std::string name = options.tokenizer;
  if (name.empty()) {
    constexpr int kByteVocab = 256;
    if (vocab == kByteVocab) name = "byte";
    if (HasWorldVocab(vocab)) name = "world";
    if (name.empty()) {
      return absl::InvalidArgumentError(StrCat(
          "tokenizer: expected to be named for a vocabulary of ", vocab, "; byte is known to fit ",
          kByteVocab, ", world ", kMostWorldVocab, " (", options.file, ")"));
    }
  }
  DS_ASSIGN_OR_RETURN(std::unique_ptr<const text::Tokenizer> tokenizer, text::MakeTokenizer(name));
  if (tokenizer->vocab_size() > vocab) {
    return absl::InvalidArgumentError(StrCat(
        "tokenizer: expected one of at most ", vocab, " tokens, as many as the model has, found ",
        name, " with ", tokenizer->vocab_size(), " (", options.file, ")"));
  }
  return tokenizer;
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

// `result`, unless the file was cut meanwhile: then that is the answer, whatever zeros led to.
template <typename T>
absl::StatusOr<T> UnlessCut(const tensors::TensorSet& set, absl::StatusOr<T> result) {
  DS_RETURN_IF_ERROR(tensors::CheckNothingLost(set));
  return result;
}

// States come in the same kinds of files (core/state/layouts.h).
absl::Status CheckIsNoState(const tensors::TensorSet& set) {
  if (set.Find("emb.weight") != nullptr) return absl::OkStatus();
  const auto& all = set.tensors();
  const bool record = set.metadata().contains("dreamstate");
  const bool tuned = std::any_of(all.begin(), all.end(), [](const tensors::Tensor& tensor) {
    return tensor.name.ends_with(".att.time_state");
  });
  // A list of the rwkv package: its tensors have numbers for names.
  const bool list = set.Find("0") != nullptr && set.Find("2") != nullptr;
  if (!record && !tuned && !list) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("expected a model, found a state: keep it with \"dreamstate states upload ",
             set.source(), "\""));
}

// The newest version of the model below `manifest`'s with the backbone that it has. What cannot be
// read has none.
std::optional<int64_t> SameBackboneVersion(const repository::Repository& repository,
                                           const repository::Manifest& manifest) {
  const auto versions = repository.ListVersions(manifest.model);
  if (!versions.ok()) return std::nullopt;
  for (const repository::VersionInfo& info : *versions) {
    if (info.version >= manifest.version || !info.manifest.ok()) continue;
    const repository::Component* backbone = info.manifest->Find("backbone");
    if (backbone != nullptr && backbone->digest == manifest.Find("backbone")->digest) {
      return info.version;
    }
  }
  return std::nullopt;
}

}  // namespace

absl::Status CheckHasTokenizer(int vocab) {
  return TokenizerFor(ImportOptions{.file = "the model in training"}, vocab).status();
}

absl::Status CheckChatTemplate(std::string_view text) {
  if (text.empty() || text.find("{user}") != std::string_view::npos) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "chat_template: expected nothing, or a text with {user} in it, found another");
}

absl::StatusOr<Imported> ImportBackbone(const ImportOptions& options) {
  DS_RETURN_IF_ERROR(repository::ValidateModelName(options.name));
  if (!options.tokenizer.empty()) {  // before a long file is read
    DS_RETURN_IF_ERROR(text::MakeTokenizer(options.tokenizer).status());
  }
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, tensors::ImportBackbone(options.file));
  DS_RETURN_IF_ERROR(CheckIsNoState(set));
  return PublishBackbone(set, options);
}

absl::StatusOr<Imported> PublishBackbone(const tensors::TensorSet& set,
                                         const ImportOptions& options) {
  Imported imported;
  DS_ASSIGN_OR_RETURN(imported.config, rwkv::Config::FromTensors(set));
  for (const tensors::Tensor& tensor : set.tensors()) imported.parameters += tensor.elements();
  const int vocab = imported.config.vocab;
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      TokenizerFor(options, vocab));
  DS_RETURN_IF_ERROR(CheckToken("end token", options.end_token, vocab));
  DS_RETURN_IF_ERROR(CheckToken("separator token", options.separator_token, vocab));

  repository::Manifest& manifest = imported.manifest;
  manifest.model = options.name;
  manifest.tokenizer = std::string(tokenizer->name());
  manifest.end_token = options.end_token;
  manifest.separator_token = options.separator_token;
  manifest.metrics = options.metrics;
  manifest.trainer_step = options.trainer_step;
  const bool world = tokenizer->name() == "world";
  manifest.chat_template =
      options.chat_template.value_or(std::string(world ? kWorldChatTemplate : ""));
  std::vector<int32_t> tokens = {options.separator_token};
  tokenizer->Encode(options.self_test_text, &tokens);
  // What needs no model is refused before minutes go into measuring one.
  DS_RETURN_IF_ERROR(CheckSelfTestLength(tokens.size()));
  DS_RETURN_IF_ERROR(CheckChatTemplate(manifest.chat_template));
  const std::optional<int64_t> available = options.available_memory_bytes.has_value()
                                               ? options.available_memory_bytes
                                               : AvailableMemoryBytes(ReadMemoryFiles());
  DS_ASSIGN_OR_RETURN(const std::optional<rwkv::FormatTable> formats,
                      UnlessCut(set, MeasureWeightFormats(set, *tokenizer, options.separator_token,
                                                          available, options.progress)));
  nlohmann::json config = DescribeConfig(imported.config, imported.parameters, set);
  if (formats) config[repository::kFormatTableField] = repository::FormatTableJson(*formats);
  std::optional<rwkv::FormatPolicy> policy;
  // A backbone that no kind in int8 suits is one that nobody measured it for.
  if (formats && formats->policy.any()) policy = formats->policy;
  std::string fingerprint;
  DS_ASSIGN_OR_RETURN(manifest.self_test,
                      UnlessCut(set, MakeSelfTest(set, std::move(tokens), policy, available,
                                                  options.progress, &fingerprint)));

  int64_t bytes = 0;
  for (const tensors::Tensor& tensor : set.tensors()) {
    bytes += static_cast<int64_t>(tensor.data.size());
  }
  options.progress("publish", bytes);
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Create(options.repository));
  if (const auto versions = repository->ListVersions(manifest.model); versions.ok()) {
    for (const repository::VersionInfo& info : *versions) {
      if (!info.manifest.ok()) continue;
      manifest.parents = {info.version};
      break;
    }
  }
  DS_ASSIGN_OR_RETURN(manifest, repository->Publish(std::move(manifest),
                                                    {{.kind = "backbone",
                                                      .tensors = &set,
                                                      .config = std::move(config),
                                                      .digest = std::move(fingerprint)}},
                                                    options.allow_losing_components));
  imported.same_backbone_version = SameBackboneVersion(*repository, manifest);
  return imported;
}

}  // namespace dreamstate::trainer
