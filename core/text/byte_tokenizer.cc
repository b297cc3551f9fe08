#include <array>

#include "core/text/tokenizer.h"

namespace dreamstate::text {
namespace {

constexpr std::array<char, 256> AllBytes() {
  std::array<char, 256> bytes{};
  for (int i = 0; i < 256; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(i);
  return bytes;
}

constexpr std::array<char, 256> kBytes = AllBytes();

class ByteTokenizer final : public Tokenizer {
 public:
  std::string_view name() const override { return "byte"; }
  int vocab_size() const override { return static_cast<int>(kBytes.size()); }

  void Encode(std::string_view bytes, std::vector<int32_t>* tokens) const override {
    tokens->reserve(tokens->size() + bytes.size());
    for (const char byte : bytes) tokens->push_back(static_cast<unsigned char>(byte));
  }

  std::string_view Decode(int32_t token) const override {
    return {&kBytes[static_cast<size_t>(token)], 1};
  }

  bool CountsForPenalties(int32_t token) const override {
    return !(token >= '0' && token <= '9') && token != ' ' && token != '\t';
  }
};

}  // namespace

std::unique_ptr<const Tokenizer> MakeByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace dreamstate::text
