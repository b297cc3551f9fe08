// The vocabulary of the RWKV World models: its text as published, and reading it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dreamstate::text {

// The published file (core/text/data), part of the program.
std::string_view WorldVocabularyText();

// The bytes of tokens 1, 2, … at [1], [2], …; [0] is empty, for the token that ends a text. A line
// is
//   <id> <Python literal of a str or bytes> <bytes>
// INVALID_ARGUMENT naming the line, expected and found: for ids out of order, literals that are
// none or whose size is not what the line says, a token twice, and single bytes that are no token.
absl::StatusOr<std::vector<std::string>> ParseWorldVocabulary(std::string_view text);

}  // namespace dreamstate::text
