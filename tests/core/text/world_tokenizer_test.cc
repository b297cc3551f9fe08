#include <random>
#include <set>

#include "core/base/hash.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"
#include "core/text/world_vocabulary.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/temporary_directory.h"

namespace dreamstate::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> Encode(std::string_view text) {
  std::vector<int32_t> tokens;
  MakeWorldTokenizer()->Encode(text, &tokens);
  return tokens;
}

std::string Decode(std::span<const int32_t> tokens) {
  const auto tokenizer = MakeWorldTokenizer();
  std::string text;
  for (const int32_t token : tokens) text += tokenizer->Decode(token);
  return text;
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(WorldVocabulary, IsThePublishedFile) {
  EXPECT_EQ(WorldVocabularyText().size(), 1'093'733u);
  EXPECT_EQ(Sha256Hex(WorldVocabularyText()),
            "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89");
}

TEST(WorldVocabulary, HasTheTokensThatItsAuthorsCount) {
  const auto tokens = ParseWorldVocabulary(WorldVocabularyText());
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  ASSERT_EQ(tokens->size(), 65'530u);
  EXPECT_EQ((*tokens)[0], "");
  for (size_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ((*tokens)[byte + 1], std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ((*tokens)[261], "\n\n");
  EXPECT_EQ((*tokens)[24281], "User");
  EXPECT_EQ((*tokens)[5585], "Ass");
  size_t longest = 0, broken = 0;
  for (size_t id = 1; id < tokens->size(); ++id) {
    longest = std::max(longest, (*tokens)[id].size());
    broken += IsValidUtf8((*tokens)[id]) ? 0 : 1;
  }
  EXPECT_EQ(longest, 128u);
  EXPECT_EQ(broken, 486u);  // as Python counts them
}

// All 256 bytes as the file's own first lines write them, and then `line`.
std::string WithLine(const std::string& line) {
  std::string_view text = WorldVocabularyText();
  size_t end = 0;
  for (int i = 0; i < 256; ++i) end = text.find('\n', end) + 1;
  return std::string(text.substr(0, end)) + line;
}

TEST(WorldVocabulary, ReadsLiteralsAsPythonDoes) {
  const std::pair<std::string, std::string> cases[] = {
      {"257 'ab' 2\n", "ab"},
      {"257 ' a b ' 5\n", " a b "},
      {"257 \"it's\" 4\n", "it's"},
      {"257 '\\'\"' 2\n", "'\""},
      {"257 '\\\\n' 2\n", "\\n"},
      {"257 '\\r\\n\\t' 3\n", "\r\n\t"},
      {"257 '\\x7f\\x80' 3\n", "\x7f\xc2\x80"},  // a code point in a str
      {"257 b'\\x7f\\x80' 2\n", "\x7f\x80"},     // a byte in bytes
      {"257 '\\u3000' 3\n", "\xe3\x80\x80"},
      {"257 '\\u00e9\\u07ff' 4\n", "\xc3\xa9\xdf\xbf"},
      {"257 'é' 2\n", "é"},
      {"257 b'a\\xffb' 3\n",
       "a\xff"
       "b"},
  };
  for (const auto& [line, token] : cases) {
    const auto tokens = ParseWorldVocabulary(WithLine(line));
    ASSERT_TRUE(tokens.ok()) << line << tokens.status();
    EXPECT_EQ(tokens->at(257), token) << line;
  }
}

TEST(WorldVocabulary, WhatIsNotOneIsRefused) {
  const std::pair<std::string, std::string> cases[] = {
      {"257 'ab' 2", "line 257: expected a line feed"},
      {"257 'ab' 3\n", "line 257: expected a literal of 2 bytes"},
      {"257 'ab' 02\n", "expected a literal of 2 bytes"},
      {"257 'ab' -2\n", "expected a literal of 2 bytes"},
      {"257 'ab'  2\n", "expected the Python literal"},
      {"258 'ab' 2\n", "expected id 257"},
      {"0257 'ab' 2\n", "expected id 257"},
      {"1e2 'ab' 2\n", "expected id 257"},
      {"99999999999999999999 'ab' 2\n", "expected id 257"},
      {"257 'ab'\n", "expected id, literal and size"},
      {"\n", "expected id, literal and size"},
      {"257 ab 2\n", "expected the Python literal"},
      {"257 'ab\" 2\n", "expected the Python literal"},
      {"257 ' 1\n", "expected the Python literal"},
      {"257 '' 0\n", "expected the Python literal"},
      {"257 'a'b' 3\n", "expected the Python literal"},
      {"257 'ab\\' 3\n", "expected the Python literal"},
      {"257 'a\\q' 2\n", "expected the Python literal"},
      {"257 'a\\x8' 2\n", "expected the Python literal"},
      {"257 'a\\xzz' 2\n", "expected the Python literal"},
      {"257 '\\ud800' 3\n", "expected the Python literal"},
      {"257 b'\\u0041' 1\n", "expected the Python literal"},
      {"257 b'é' 2\n", "expected the Python literal"},
      {"257 'a\tb' 3\n", "expected the Python literal"},
      {"257 u'ab' 2\n", "expected the Python literal"},
      {"257 'a' 1\n", "expected each token once"},
  };
  for (const auto& [line, says] : cases) {
    const absl::Status status = ParseWorldVocabulary(WithLine(line)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says)) << line;
  }
  EXPECT_THAT(std::string(ParseWorldVocabulary("1 'a' 1\n").status().message()),
              HasSubstr("all 256 bytes as tokens, found 1"));
  EXPECT_FALSE(ParseWorldVocabulary("").ok());
}

TEST(WorldTokenizer, AgreesWithTheOfficialOne) {
  const auto golden =
      nlohmann::json::parse(testing::ReadAll(DREAMSTATE_TEST_DATA "/golden/tokenizer_cases.json"));
  ASSERT_GE(golden.at("cases").size(), 29u);
  for (const nlohmann::json& entry : golden.at("cases")) {
    const std::string text = FromHex(entry.at("hex").get<std::string>());
    const auto ids = entry.at("ids").get<std::vector<int32_t>>();
    EXPECT_EQ(Encode(text), ids) << entry.at("hex");
    EXPECT_EQ(Decode(ids), text) << entry.at("hex");
  }
}

TEST(WorldTokenizer, EveryTokenDecodesToItsBytes) {
  const auto tokens = ParseWorldVocabulary(WorldVocabularyText());
  const auto tokenizer = MakeWorldTokenizer();
  EXPECT_EQ(tokenizer->name(), "world");
  ASSERT_EQ(tokenizer->vocab_size(), 65'530);
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    ASSERT_EQ(tokenizer->Decode(id), tokens->at(static_cast<size_t>(id))) << id;
    // The longest match of a token's own bytes is that token.
    if (id == 0) continue;
    ASSERT_THAT(Encode(tokenizer->Decode(id)), ElementsAre(id));
  }
}

// The longest token at the front, by asking them all.
std::vector<int32_t> SlowEncode(const std::vector<std::string>& tokens, std::string_view text) {
  std::vector<int32_t> ids;
  while (!text.empty()) {
    size_t best = 0;
    for (size_t id = 1; id < tokens.size(); ++id) {
      if (tokens[id].size() > tokens[best].size() && text.starts_with(tokens[id])) best = id;
    }
    ids.push_back(static_cast<int32_t>(best));
    text.remove_prefix(tokens[best].size());
  }
  return ids;
}

TEST(WorldTokenizer, TakesTheLongestTokenAndLosesNoByte) {
  const auto tokens = *ParseWorldVocabulary(WorldVocabularyText());
  std::mt19937 bits(1);
  for (int round = 0; round < 200; ++round) {
    // Bytes of any kind, or pieces of tokens: what looks like text and is cut anywhere.
    std::string text;
    for (uint32_t i = bits() % 12; i-- > 0;) {
      if (round % 2 == 0) {
        text.push_back(static_cast<char>(bits()));
      } else {
        const std::string& token = tokens[1 + bits() % (tokens.size() - 1)];
        text += token.substr(0, 1 + bits() % token.size());
      }
    }
    const std::vector<int32_t> ids = Encode(text);
    EXPECT_EQ(Decode(ids), text);
    EXPECT_EQ(ids, SlowEncode(tokens, text));
    EXPECT_LE(ids.size(), text.size());
  }
  std::string bytes(1 << 20, '\0');
  for (char& byte : bytes) byte = static_cast<char>(bits());
  EXPECT_EQ(Decode(Encode(bytes)), bytes);
}

// As a stream hands it out: token after token, whole code points only.
TEST(WorldTokenizer, DecodesAsAStream) {
  const auto tokenizer = MakeWorldTokenizer();
  const std::string text = "naïve 🙂👍🏽 你好 \xff end";
  // Byte by byte: every code point comes in pieces.
  Utf8Stream stream;
  std::string out;
  for (const char c : text) {
    out += stream.Push(tokenizer->Decode(static_cast<unsigned char>(c) + 1));
    EXPECT_TRUE(IsValidUtf8(out));
  }
  out += stream.Finish();
  EXPECT_EQ(out, "naïve 🙂👍🏽 你好 \xEF\xBF\xBD end");
  // By its own tokens, which agree.
  Utf8Stream again;
  std::string same;
  for (const int32_t token : Encode(text)) same += again.Push(tokenizer->Decode(token));
  EXPECT_EQ(same + again.Finish(), out);
}

TEST(WorldTokenizer, EncodeAppends) {
  std::vector<int32_t> tokens = {7};
  MakeWorldTokenizer()->Encode("User", &tokens);
  EXPECT_THAT(tokens, ElementsAre(7, 24281));
  MakeWorldTokenizer()->Encode("", &tokens);
  EXPECT_EQ(tokens.size(), 2u);
}

// `if token_text in ' \t0123456789'`, says the reference: a substring, and nothing else.
TEST(WorldTokenizer, DigitsSpacesAndTabsEscapePenalties) {
  const auto tokenizer = MakeWorldTokenizer();
  std::set<std::string> exempt;
  for (int32_t id = 1; id < tokenizer->vocab_size(); ++id) {
    if (!tokenizer->CountsForPenalties(id)) exempt.insert(std::string(tokenizer->Decode(id)));
  }
  for (const char* text : {" ", "\t", "0", "9"}) EXPECT_TRUE(exempt.contains(text)) << text;
  for (const std::string& text : exempt) {
    EXPECT_NE(std::string(" \t0123456789").find(text), std::string::npos);
  }
  EXPECT_FALSE(exempt.contains("  "));
  EXPECT_FALSE(tokenizer->CountsForPenalties(0));
  EXPECT_TRUE(tokenizer->CountsForPenalties(24281));
  EXPECT_TRUE(tokenizer->CountsForPenalties(11));
}

TEST(MakeTokenizer, KnowsTheWorld) {
  EXPECT_EQ((*MakeTokenizer("world"))->name(), "world");
  EXPECT_THAT(std::string(MakeTokenizer("World").status().message()),
              HasSubstr("expected one of byte, world"));
}

}  // namespace
}  // namespace dreamstate::text
