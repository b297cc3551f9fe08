#include "server/inference/text_input.h"

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

absl::Status CheckCount(size_t found, int64_t max_tokens, std::string_view field) {
  if (static_cast<int64_t>(found) <= max_tokens) return absl::OkStatus();
  return FieldError(field, StrCat("expected at most ", max_tokens, " tokens, found ", found));
}

absl::StatusOr<std::vector<int32_t>> ReadBytes(std::string_view bytes, const ModelSession& session,
                                               int64_t max_tokens, std::string_view field) {
  std::vector<int32_t> tokens;
  session.tokenizer->Encode(bytes, &tokens);
  DS_RETURN_IF_ERROR(CheckCount(tokens.size(), max_tokens, field));
  const int vocab = session.weights->config.vocab;
  size_t offset = 0;
  for (const int32_t token : tokens) {
    if (token == session.end_token || token == session.separator_token) {
      return FieldError(
          field, StrCat("the model's ", token == session.end_token ? "end" : "separator", " token ",
                        token, " at byte ", offset, " is reserved"));
    }
    if (token >= vocab) {
      return FieldError(field, StrCat("byte ", offset, " gives token ", token,
                                      ", the model knows 0 to ", vocab - 1));
    }
    offset += TokenBytes(token, *session.tokenizer).size();
  }
  return tokens;
}

}  // namespace

std::string_view TokenBytes(int32_t token, const text::Tokenizer& tokenizer) {
  return token < tokenizer.vocab_size() ? tokenizer.Decode(token) : std::string_view();
}

int64_t TextBytes(std::span<const int32_t> tokens, const text::Tokenizer& tokenizer) {
  int64_t bytes = 0;
  for (const int32_t token : tokens) {
    bytes += static_cast<int64_t>(TokenBytes(token, tokenizer).size());
  }
  return bytes;
}

absl::StatusOr<std::vector<int32_t>> ReadTextInput(const v1::TextInput& input,
                                                   const ModelSession& session, int64_t max_tokens,
                                                   std::string_view field) {
  switch (input.form_case()) {
    case v1::TextInput::kText:
      return ReadBytes(input.text(), session, max_tokens, StrCat(field, ".text"));
    case v1::TextInput::kRaw:
      return ReadBytes(input.raw(), session, max_tokens, StrCat(field, ".raw"));
    case v1::TextInput::kTokens: {
      const auto& ids = input.tokens().ids();
      DS_RETURN_IF_ERROR(
          CheckCount(static_cast<size_t>(ids.size()), max_tokens, StrCat(field, ".tokens.ids")));
      const int vocab = session.weights->config.vocab;
      for (int i = 0; i < ids.size(); ++i) {
        if (ids[i] >= 0 && ids[i] < vocab) continue;
        return FieldError(StrCat(field, ".tokens.ids[", i, "]"),
                          StrCat("expected 0 to ", vocab - 1, ", found ", ids[i]));
      }
      return std::vector<int32_t>(ids.begin(), ids.end());
    }
    case v1::TextInput::FORM_NOT_SET:
      break;
  }
  return std::vector<int32_t>();
}

}  // namespace dreamstate::server
