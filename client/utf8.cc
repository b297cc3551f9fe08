#include "client/utf8.h"

#include <cstddef>
#include <utility>

namespace dreamstate::client {
namespace {

// Length of the valid sequence that `bytes` begins with; 0 when it begins with none. `bytes` is not
// empty.
size_t SequenceLength(absl::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  size_t length;
  unsigned char low = 0x80, high = 0xbf;  // range of the second byte: Unicode standard, table 3-7
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (bytes.size() < length || at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (at(i) < 0x80 || at(i) > 0xbf) return 0;
  }
  return length;
}

}  // namespace

bool IsValidUtf8(absl::string_view bytes) {
  while (!bytes.empty()) {
    const size_t length = SequenceLength(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string ToValidUtf8(absl::string_view bytes, absl::string_view replacement) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = SequenceLength(bytes);
    const absl::string_view piece = length == 0 ? replacement : bytes.substr(0, length);
    text.append(piece.data(), piece.size());
    bytes.remove_prefix(length == 0 ? 1 : length);
  }
  return text;
}

v1::TextInput TextInputOf(std::string bytes) {
  v1::TextInput input;
  if (IsValidUtf8(bytes)) {
    input.set_text(std::move(bytes));
  } else {
    input.set_raw(std::move(bytes));
  }
  return input;
}

}  // namespace dreamstate::client
