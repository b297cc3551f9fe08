// Turns text into token ids and back. One object a vocabulary; immutable and thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dreamstate::text {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // "byte" or "world".
  virtual std::string_view name() const = 0;
  // Ids are in [0, vocab_size()).
  virtual int vocab_size() const = 0;
  // Any bytes; never fails. The number of tokens is at most the number of bytes.
  virtual void Encode(std::string_view bytes, std::vector<int32_t>* tokens) const = 0;
  // The bytes of one token; empty for ids without bytes. `token` in [0, vocab_size()).
  virtual std::string_view Decode(int32_t token) const = 0;
  // Whether penalties count this token: digits, spaces and tabs are not counted (the reference
  // sampler's rule: no token whose text is a piece of " \t0123456789").
  virtual bool CountsForPenalties(int32_t token) const = 0;
};

// Token id = byte, 256 ids.
std::unique_ptr<const Tokenizer> MakeByteTokenizer();

// The RWKV World vocabulary, 65,530 ids (models have 65,536: no text has the last six). Id 0 ends a
// text and has no bytes, ids 1 to 256 are the single bytes. The first call takes some 50 ms.
std::unique_ptr<const Tokenizer> MakeWorldTokenizer();

// The tokenizer of that name; INVALID_ARGUMENT naming the known ones.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(std::string_view name);

}  // namespace dreamstate::text
