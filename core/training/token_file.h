// RWKV-LM's token files (spec section 3.5): `.bin` holds uint16 tokens, document after document,
// each ended by token 0; `.idx` says where documents lie. Little-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dreamstate::training {

// A pair of files, mapped. Immutable, thread-safe.
struct TokenFile {
  std::span<const uint16_t> tokens;  // all documents, end tokens included
  std::vector<int32_t> sizes;        // tokens of each document, its end token included
  std::shared_ptr<const void> memory;
};

// Opens STEM.bin and STEM.idx. Untrusted: what the index says is checked against the tokens'
// number. NOT_FOUND, or INVALID_ARGUMENT naming file, expected and found.
absl::StatusOr<TokenFile> OpenTokenFile(const std::string& stem);

// Writes both files; `tokens` holds the documents one after another. Each file is seen whole or
// not at all.
absl::Status WriteTokenFile(const std::string& stem, std::span<const uint16_t> tokens,
                            std::span<const int32_t> sizes);

}  // namespace dreamstate::training
