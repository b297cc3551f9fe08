// What a bundle is: one consistent set of components of a model, described by one JSON file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace dreamstate::repository {

struct Component {
  std::string kind;         // "backbone", "state_dit", "hybrid"
  std::string digest;       // tensors::Fingerprint of its tensors; the blob's name
  int64_t bytes = 0;        // of the blob file
  std::string file_sha256;  // of the blob file's bytes
  nlohmann::json config = nlohmann::json::object();  // sizes, for people; the tensors decide
};

// Tokens whose loss says that a bundle computes what its publisher computed.
struct SelfTest {
  std::vector<int32_t>
      tokens;  // >= 2; tokens[0] is context, the rest are targets, from the empty state
  double expected_nll = 0;  // nats, summed
  nlohmann::json tolerance =
      nlohmann::json::object();  // absolute nats a weight format: {"fp32": 1e-3, "bf16": 0.5}
};

struct Manifest {
  int schema = 1;
  std::string model;
  int64_t version = 0;
  std::vector<Component> components;  // a backbone first, each kind at most once
  std::vector<int64_t> parents;       // versions
  std::string tokenizer;              // "byte" or "world"
  int32_t end_token = 0;
  int32_t separator_token = 0;
  std::string chat_template;  // "{user}" marks the user's text; empty = the model is not for chat
  nlohmann::json metrics = nlohmann::json::object();
  SelfTest self_test;
  absl::Time created;
  int64_t trainer_step = 0;

  const Component* Find(std::string_view kind) const;
};

// Model names: 1 to 63 of a-z 0-9 - . _, beginning with a letter or digit. INVALID_ARGUMENT says
// so.
absl::Status ValidateModelName(std::string_view name);

// A longer file is no manifest.
inline constexpr size_t kMaxManifestBytes = 1 << 20;

// Bytes that are not UTF-8 are written as U+FFFD.
std::string SerializeManifest(const Manifest& manifest);
// Untrusted text; INVALID_ARGUMENT naming `source`, the field, expected and found.
absl::StatusOr<Manifest> ParseManifest(std::string_view source, std::string_view json);

}  // namespace dreamstate::repository
