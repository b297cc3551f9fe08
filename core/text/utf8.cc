#include "core/text/utf8.h"

#include <cstddef>

namespace dreamstate::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// What the bytes at the front of a text are.
struct Front {
  enum Kind { kComplete, kBroken, kIncomplete } kind;
  size_t bytes;  // of the code point, of the maximal subpart that can never become one, or so far
};

// Table 3-7 of the Unicode standard: the ranges of the second byte rule out overlong forms,
// surrogates and values above U+10FFFF.
Front Look(std::string_view text) {
  const auto at = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Front::kComplete, 1};
  size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Front::kBroken, 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Front::kIncomplete, i};
    if (at(i) < low || at(i) > high) return {Front::kBroken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Front::kComplete, length};
}

}  // namespace

bool IsValidUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Front front = Look(bytes);
    if (front.kind != Front::kComplete) return false;
    bytes.remove_prefix(front.bytes);
  }
  return true;
}

std::string Utf8Stream::Push(std::string_view bytes) {
  pending_.append(bytes);
  std::string text;
  text.reserve(pending_.size());
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Front front = Look(rest);
    if (front.kind == Front::kIncomplete) break;
    text.append(front.kind == Front::kComplete ? rest.substr(0, front.bytes) : kReplacement);
    rest.remove_prefix(front.bytes);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string Utf8Stream::Finish() {
  // What is held back is the beginning of one code point: one maximal subpart.
  std::string text(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  return text;
}

}  // namespace dreamstate::text
