#include "core/text/world_vocabulary.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::text {
namespace {

constexpr size_t kMaxTokenBytes = 1024;

// Takes the literal of a Python str or bytes apart, without its quotes.
class LiteralReader {
 public:
  LiteralReader(std::string_view body, bool is_bytes) : rest_(body), is_bytes_(is_bytes) {}

  // Nothing when it is not well formed.
  std::optional<std::string> Read(char quote) {
    std::string out;
    while (!rest_.empty()) {
      const char c = Take();
      if (c == quote) return std::nullopt;
      if (c != '\\') {
        // bytes hold ASCII; the file holds no control characters as they are.
        if (static_cast<unsigned char>(c) < ' ' || (is_bytes_ && (c & 0x80) != 0)) {
          return std::nullopt;
        }
        out.push_back(c);
      } else if (!ReadEscape(&out)) {
        return std::nullopt;
      }
    }
    return out;
  }

 private:
  char Take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  bool ReadEscape(std::string* out) {
    if (rest_.empty()) return false;
    switch (Take()) {
      case 'n':
        out->push_back('\n');
        return true;
      case 't':
        out->push_back('\t');
        return true;
      case 'r':
        out->push_back('\r');
        return true;
      case '\\':
        out->push_back('\\');
        return true;
      case '\'':
        out->push_back('\'');
        return true;
      case '"':
        out->push_back('"');
        return true;
      case 'x':
        return ReadCode(2, out);
      case 'u':
        return !is_bytes_ && ReadCode(4, out);
      default:
        return false;
    }
  }

  // A byte of bytes as it is, a code point of a str in UTF-8.
  bool ReadCode(size_t digits, std::string* out) {
    if (rest_.size() < digits) return false;
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = Take();
      uint32_t digit = 0;
      if (c >= '0' && c <= '9') {
        digit = static_cast<uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<uint32_t>(c - 'a') + 10;
      } else {
        return false;
      }
      code = code * 16 + digit;
    }
    const auto push = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
    if (is_bytes_ || code < 0x80) {
      push(code);
    } else if (code < 0x800) {
      push(0xc0 | (code >> 6));
      push(0x80 | (code & 0x3f));
    } else if (code >= 0xd800 && code <= 0xdfff) {
      return false;  // half of a code point
    } else {
      push(0xe0 | (code >> 12));
      push(0x80 | ((code >> 6) & 0x3f));
      push(0x80 | (code & 0x3f));
    }
    return true;
  }

  std::string_view rest_;
  bool is_bytes_;
};

std::optional<std::string> ReadLiteral(std::string_view literal) {
  const bool is_bytes = literal.starts_with("b");
  if (is_bytes) literal.remove_prefix(1);
  if (literal.size() < 2) return std::nullopt;
  const char quote = literal.front();
  if ((quote != '\'' && quote != '"') || literal.back() != quote) return std::nullopt;
  return LiteralReader(literal.substr(1, literal.size() - 2), is_bytes).Read(quote);
}

// Decimal, without sign or leading zero; nothing from 10^6 on.
std::optional<size_t> ReadNumber(std::string_view digits) {
  if (digits.empty() || digits.size() > 6 || digits.front() == '0') return std::nullopt;
  size_t number = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<size_t>(c - '0');
  }
  return number;
}

absl::Status Refuse(size_t line, std::string_view expected, std::string_view found) {
  return absl::InvalidArgumentError(StrCat("vocabulary line ", line, ": expected ", expected,
                                           ", found \"",
                                           absl::CHexEscape(AbslView(found.substr(0, 128))), "\""));
}

absl::StatusOr<std::string> ReadLine(size_t number, std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || last == first) {
    return Refuse(number, "id, literal and size", line);
  }
  if (ReadNumber(line.substr(0, first)) != number) {
    return Refuse(number, StrCat("id ", number), line);
  }
  std::optional<std::string> token = ReadLiteral(line.substr(first + 1, last - first - 1));
  if (!token.has_value() || token->empty() || token->size() > kMaxTokenBytes) {
    return Refuse(number, "the Python literal of a str or bytes", line);
  }
  if (ReadNumber(line.substr(last + 1)) != token->size()) {
    return Refuse(number, StrCat("a literal of ", token->size(), " bytes"), line);
  }
  return *std::move(token);
}

// Every token once, and every byte a token, so that any text can be encoded.
absl::Status CheckTokens(const std::vector<std::string>& tokens) {
  std::vector<std::string_view> sorted(tokens.begin() + 1, tokens.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) {
    return absl::InvalidArgumentError(StrCat("vocabulary: expected each token once, found twice \"",
                                             absl::CHexEscape(AbslView(*twice)), "\""));
  }
  const auto bytes = std::count_if(sorted.begin(), sorted.end(),
                                   [](std::string_view token) { return token.size() == 1; });
  if (bytes != 256) {
    return absl::InvalidArgumentError(
        StrCat("vocabulary: expected all 256 bytes as tokens, found ", bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseWorldVocabulary(std::string_view text) {
  std::vector<std::string> tokens(1);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      return Refuse(tokens.size(), "a line feed at its end", text);
    }
    DS_ASSIGN_OR_RETURN(std::string token, ReadLine(tokens.size(), text.substr(0, end)));
    tokens.push_back(std::move(token));
    text.remove_prefix(end + 1);
  }
  DS_RETURN_IF_ERROR(CheckTokens(tokens));
  return tokens;
}

}  // namespace dreamstate::text
