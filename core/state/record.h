// A stored state with everything that explains it. Its bytes are a safetensors file ("shift", "wkv", optional "last_hidden", and
// JSON metadata under "dreamstate"), which is also the download format; a SHA-256 over the tensors guards it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/state/state.h"
#include "nlohmann/json.hpp"

namespace dreamstate::state {

// How a state was made, with all arguments, so that it can be explained and, where tokens were kept, re-made.
struct Lineage {
  std::string operation;             // "harvest", "decode"
  std::vector<std::string> parents;  // ids, in order
  nlohmann::json arguments = nlohmann::json::object();
  std::string tokens_sha256;         // over the tokens as little-endian int32
  int64_t tokens_read = 0;           // by this operation
  std::vector<int32_t> kept_tokens;  // empty unless they were kept
};

struct Record {
  std::string id;      // set by the store
  std::string model;   // the model's name, without "models/"
  std::string fingerprint;  // of the backbone, 64 hexadecimal digits
  std::string numerics;     // "bf16/avx512"
  absl::Time created;       // set by the store
  int64_t token_count = 0;  // since the empty state
  Lineage lineage;
  State state;
  std::vector<float> last_hidden;  // [D] after ln_out; empty = unknown
};

// SHA-256 of tokens as Lineage keeps it.
std::string TokensSha256(const std::vector<int32_t>& tokens);

// The record as a safetensors file, and back. ParseRecord answers DATA_LOSS naming `source` when the bytes are not a whole
// record or the checksum does not match, whatever the bytes are.
absl::StatusOr<std::string> SerializeRecord(const Record& record);
absl::StatusOr<Record> ParseRecord(std::string_view source, std::string_view bytes);

}  // namespace dreamstate::state
