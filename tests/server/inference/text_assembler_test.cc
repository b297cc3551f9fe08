#include "server/inference/text_assembler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;

struct Result {
  std::string text, raw;
  std::vector<int32_t> tokens;
  std::optional<int> stop;
  std::vector<std::string> pieces;
};

// Token i has the i-th bytes.
Result Assemble(const std::vector<std::string>& stops, const std::vector<std::string>& tokens) {
  TextAssembler assembler(stops);
  Result result;
  const auto take = [&] {
    v1::TextPiece piece;
    if (!assembler.Take(&piece)) return;
    result.text += piece.text();
    result.raw += piece.raw();
    result.tokens.insert(result.tokens.end(), piece.token_ids().begin(), piece.token_ids().end());
    result.pieces.push_back(piece.text());
  };
  for (size_t i = 0; i < tokens.size() && !result.stop; ++i) {
    result.stop = assembler.Push(static_cast<int32_t>(i), tokens[i], std::nullopt);
    take();
  }
  if (!result.stop) assembler.Finish();
  take();
  EXPECT_EQ(assembler.returned_tokens(), static_cast<int64_t>(result.tokens.size()));
  return result;
}

TEST(TextAssembler, FindsStopStringsAcrossTokens) {
  const Result result = Assemble({"\n\nUser"}, {"Hi", "\n", "\nUs", "er:", "x"});
  EXPECT_EQ(result.stop, 0);
  EXPECT_EQ(result.text, "Hi");
  EXPECT_THAT(result.tokens, ElementsAre(0));
}

TEST(TextAssembler, HoldsBackOnlyWhatMayBecomeAStop) {
  const Result result = Assemble({"abc"}, {"xa", "b", "d", "ab"});
  EXPECT_FALSE(result.stop);
  EXPECT_THAT(result.pieces, ElementsAre("x", "abd", "ab"));
  EXPECT_THAT(result.tokens, ElementsAre(0, 1, 2, 3));
}

TEST(TextAssembler, TheFirstToAppearEndsTheText) {
  // "b" is complete before "abc" is; of strings that end together the longest wins.
  EXPECT_EQ(Assemble({"abc", "b"}, {"xabc"}).stop, 1);
  EXPECT_EQ(Assemble({"abc", "b"}, {"xabc"}).text, "xa");
  EXPECT_EQ(Assemble({"c", "abc"}, {"xabc"}).stop, 1);
  EXPECT_EQ(Assemble({"c", "abc"}, {"xabc"}).text, "x");
  // Overlapping beginnings.
  EXPECT_EQ(Assemble({"aab"}, {"a", "a", "a", "b"}).text, "a");
  EXPECT_EQ(Assemble({"abab!"}, {"ab", "ab", "ab", "!"}).text, "ab");
}

TEST(TextAssembler, ATokenThatTheStopCutsIsNotReturned) {
  const Result result = Assemble({"!"}, {"one ", "two!three"});
  EXPECT_EQ(result.text, "one two");
  EXPECT_EQ(result.raw, "one two");
  EXPECT_THAT(result.tokens, ElementsAre(0));
}

TEST(TextAssembler, HandsOutCompleteUtf8Only) {
  const Result result = Assemble({}, {"\xE2", "\x82", "\xAC!", "\xF0\x9F"});
  EXPECT_THAT(result.pieces, ElementsAre("€!", "\xEF\xBF\xBD"));
  EXPECT_EQ(result.raw, "\xE2\x82\xAC!\xF0\x9F");
  EXPECT_THAT(result.tokens, ElementsAre(0, 1, 2, 3));
}

TEST(TextAssembler, AStopInsideACodePointFlushesWhatCameBefore) {
  const Result result = Assemble({"b"}, {"\xE2\x82", "b"});
  EXPECT_EQ(result.text, "\xEF\xBF\xBD");
  EXPECT_EQ(result.raw, "\xE2\x82");
  EXPECT_THAT(result.tokens, ElementsAre(0));
}

TEST(TextAssembler, TokensWithoutBytesAreReturnedInTheirPlace) {
  EXPECT_THAT(Assemble({"ab"}, {"x", "", "a", "", "c"}).tokens, ElementsAre(0, 1, 2, 3, 4));
}

// The text does not depend on how it is cut into tokens, and is what a plain search finds.
TEST(TextAssembler, AgreesWithAPlainSearchHoweverTheTextIsCut) {
  std::mt19937 random(3);
  const auto word = [&](size_t most) {
    std::string text(1 + random() % most, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(random() % 4);
    for (std::string& stop : stops) stop = word(5);
    const std::string text = word(30);
    std::string expected = text;
    size_t first_end = text.size() + 1;
    for (const std::string& stop : stops) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      const size_t end = at + stop.size();
      if (end < first_end || (end == first_end && at < expected.size())) {
        first_end = end;
        expected = text.substr(0, at);
      }
    }
    std::vector<std::string> tokens;
    for (size_t at = 0; at < text.size();) {
      tokens.push_back(text.substr(at, 1 + random() % 6));
      at += tokens.back().size();
    }
    const Result result = Assemble(stops, tokens);
    ASSERT_EQ(result.text, expected) << text;
    ASSERT_EQ(result.stop.has_value(), first_end <= text.size());
    size_t bytes = 0;
    for (const int32_t token : result.tokens) bytes += tokens[static_cast<size_t>(token)].size();
    ASSERT_LE(bytes, expected.size());
  }
}

}  // namespace
}  // namespace dreamstate::server
