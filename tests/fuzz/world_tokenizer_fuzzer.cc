// Any bytes as text: encoded and decoded they come back. And as lines of a vocabulary: refused, or
// tokens.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/text/tokenizer.h"
#include "core/text/world_vocabulary.h"

namespace dreamstate::text {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<const Tokenizer> tokenizer = MakeWorldTokenizer();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::vector<int32_t> tokens;
  tokenizer->Encode(bytes, &tokens);
  std::string back;
  for (const int32_t token : tokens) back += tokenizer->Decode(token);
  if (back != bytes || tokens.size() > size) std::abort();

  // Behind the 256 lines of single bytes, without which nothing is a vocabulary.
  static const std::string_view head = [] {
    const std::string_view text = WorldVocabularyText();
    size_t end = 0;
    for (int i = 0; i < 256; ++i) end = text.find('\n', end) + 1;
    return text.substr(0, end);
  }();
  const absl::StatusOr<std::vector<std::string>> vocabulary =
      ParseWorldVocabulary(std::string(head).append(bytes));
  if (vocabulary.ok() && vocabulary->size() < 257) std::abort();
  return 0;
}

}  // namespace dreamstate::text
