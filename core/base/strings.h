// Joining text for messages. Abseil may be built with a string_view of its own (Debian's is), which
// std::string_view does not convert to; these take either.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace dreamstate {

// `text` for a function of Abseil.
inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }
// `text` from a function of Abseil.
inline std::string_view StdView(absl::string_view text) { return {text.data(), text.size()}; }

namespace strings_internal {

template <typename T>
decltype(auto) Piece(const T& value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return AbslView(value);
  } else {
    return static_cast<const T&>(value);
  }
}

}  // namespace strings_internal

// The pieces (text or numbers) one after another, as absl::StrCat.
template <typename... T>
std::string StrCat(const T&... pieces) {
  return absl::StrCat(strings_internal::Piece(pieces)...);
}

template <typename... T>
void StrAppend(std::string* out, const T&... pieces) {
  absl::StrAppend(out, strings_internal::Piece(pieces)...);
}

}  // namespace dreamstate
