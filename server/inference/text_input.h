// From a request's TextInput to token ids.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "dreamstate/v1/common.pb.h"
#include "server/inference/model_session.h"

namespace dreamstate::server {

// An input with no form set is empty. INVALID_ARGUMENT with a path under `field`: more than
// `max_tokens`, an id outside [0, V), or, in text and raw, the model's end or separator token
// (naming the offset of its first byte).
absl::StatusOr<std::vector<int32_t>> ReadTextInput(const v1::TextInput& input,
                                                   const ModelSession& session, int64_t max_tokens,
                                                   std::string_view field);

// Bytes that tokens stand for, together; ids without bytes count nothing.
int64_t TextBytes(std::span<const int32_t> tokens, const text::Tokenizer& tokenizer);
// The bytes of one token; empty where the model's vocabulary is larger than the tokenizer's.
std::string_view TokenBytes(int32_t token, const text::Tokenizer& tokenizer);

}  // namespace dreamstate::server
