// Turns a file of another engine into a published bundle: read, checked, self-tested, published.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/rwkv/config.h"
#include "core/tensors/tensor_set.h"
#include "nlohmann/json.hpp"
#include "server/trainer/progress.h"

namespace dreamstate::trainer {

struct ImportOptions {
  std::string file;
  std::string name;        // the model's
  std::string repository;  // made when missing
  // Empty: the one whose vocabulary the model has.
  std::string tokenizer;
  int32_t end_token = 0;
  int32_t separator_token = 0;
  // Not given: that of the World models for their vocabulary, none for others.
  std::optional<std::string> chat_template;
  // Read behind the separator token by the self-test.
  std::string self_test_text =
      "The quick brown fox jumps over the lazy dog. It was the best of times, it was the worst of "
      "times.\n";
  // What may be taken beside the mapped file; measured when not given.
  std::optional<int64_t> available_memory_bytes;
  ProgressCallback progress = [](std::string_view, int64_t) {};
  // Of the manifest, where the model was trained here.
  nlohmann::json metrics = nlohmann::json::object();
  int64_t trainer_step = 0;
  bool allow_losing_components = false;
};

struct Imported {
  repository::Manifest manifest;
  rwkv::Config config;
  int64_t parameters = 0;
  // The newest earlier version of the model with the same backbone, if any.
  std::optional<int64_t> same_backbone_version;
};

// INVALID_ARGUMENT when a model of this vocabulary is published only with a tokenizer named for it.
absl::Status CheckHasTokenizer(int vocab);

// INVALID_ARGUMENT for a text without {user}; empty is allowed.
absl::Status CheckChatTemplate(std::string_view text);

// Checks, measures, self-tests and publishes a backbone that is in memory or mapped; `options.file`
// is not read. The newest version that can be read is the new one's parent. Errors as
// ImportBackbone.
absl::StatusOr<Imported> PublishBackbone(const tensors::TensorSet& set,
                                         const ImportOptions& options);

// The file stays mapped, its tensors are packed in one weight format at a time. Nothing is written
// before everything is checked. Errors name the option or the tensor, expected and found;
// RESOURCE_EXHAUSTED before anything is loaded when the model does not fit the memory; DATA_LOSS,
// and nothing published, when the file is cut or changed meanwhile.
absl::StatusOr<Imported> ImportBackbone(const ImportOptions& options);

}  // namespace dreamstate::trainer
