#include "core/text/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ByteTokenizer, EveryByteComesBack) {
  const auto tokenizer = MakeByteTokenizer();
  EXPECT_EQ(tokenizer->name(), "byte");
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  std::vector<int32_t> tokens;
  tokenizer->Encode(bytes, &tokens);
  ASSERT_EQ(tokens.size(), 256u);
  std::string back;
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(tokens[static_cast<size_t>(i)], i);
    back += tokenizer->Decode(i);
  }
  EXPECT_EQ(back, bytes);
}

TEST(ByteTokenizer, EncodeAppends) {
  std::vector<int32_t> tokens = {7};
  MakeByteTokenizer()->Encode("A\xff", &tokens);
  EXPECT_THAT(tokens, ElementsAre(7, 65, 255));
  MakeByteTokenizer()->Encode("", &tokens);
  EXPECT_EQ(tokens.size(), 3u);
}

TEST(ByteTokenizer, DigitsSpacesAndTabsEscapePenalties) {
  const auto tokenizer = MakeByteTokenizer();
  for (int token = 0; token < 256; ++token) {
    const bool exempt = (token >= '0' && token <= '9') || token == ' ' || token == '\t';
    EXPECT_EQ(tokenizer->CountsForPenalties(token), !exempt) << token;
  }
}

TEST(MakeTokenizer, KnowsItsNames) {
  EXPECT_EQ((*MakeTokenizer("byte"))->name(), "byte");
  const absl::Status status = MakeTokenizer("klingon").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("klingon"));
}

}  // namespace
}  // namespace dreamstate::text
