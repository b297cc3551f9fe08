// A stored state with everything that explains it. Its bytes are also the download format: a
// safetensors file with
//   shift        f32 [L, 2, D]     0 = time mix, 1 = channel mix
//   wkv          f32 [L, H, N, N]  [layer][head][value][key]
//   last_hidden  f32 [D]           optional
//   kept_tokens  i32 [T]           optional
// and two texts of metadata:
//   dreamstate         JSON, see below
//   dreamstate_sha256  SHA-256 of the text "dreamstate"
// The JSON has schema (1), id, model, fingerprint, numerics, created (RFC 3339, UTC), token_count,
// lineage {operation, parents, arguments, tokens_sha256, tokens_read},
// shape {layers, width, heads, head_size}, and
// tensors_sha256: SHA-256 over the tensors in the order above, for each its name, "\n", its count
// of bytes in decimal, "\n", its bytes. So a flipped bit is found wherever it is.
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

// How a state was made, with all arguments, so that it can be explained and, where tokens were
// kept, re-made.
struct Lineage {
  std::string operation;                                // "harvest", "decode"
  std::vector<std::string> parents;                     // ids, in order
  nlohmann::json arguments = nlohmann::json::object();  // at most 64 levels deep
  std::string tokens_sha256;                            // over the tokens as little-endian int32
  int64_t tokens_read = 0;                              // by this operation
  std::vector<int32_t> kept_tokens;                     // empty unless they were kept
};

struct Record {
  std::string id;           // set by the store
  std::string model;        // the model's name, without "models/"
  std::string fingerprint;  // of the backbone, 64 hexadecimal digits
  std::string numerics;     // "bf16/avx512", as rwkv::Engine::numerics
  absl::Time created;       // set by the store
  int64_t token_count = 0;  // since the empty state
  Lineage lineage;
  State state;
  std::vector<float> last_hidden;  // [D] after ln_out; empty = unknown
};

// SHA-256 of tokens as Lineage keeps it.
std::string TokensSha256(const std::vector<int32_t>& tokens);

// The record as a safetensors file, and back. SerializeRecord answers INVALID_ARGUMENT naming the
// field when a value is outside what a record may hold (not finite, sizes that do not fit, a text
// that is not UTF-8). `created` keeps nanoseconds. ParseRecord answers DATA_LOSS naming `source`
// when the bytes are not a whole record or a checksum does not match, whatever the bytes are.
absl::StatusOr<std::string> SerializeRecord(const Record& record);
absl::StatusOr<Record> ParseRecord(std::string_view source, std::string_view bytes);

}  // namespace dreamstate::state
