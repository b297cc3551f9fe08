#include "core/text/utf8.h"

#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace dreamstate::text {
namespace {

const std::string kReplacement = "\xEF\xBF\xBD";

std::string Whole(std::string_view bytes) {
  Utf8Stream stream;
  std::string text = stream.Push(bytes);
  text += stream.Finish();
  return text;
}

std::string ByteByByte(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  for (const char byte : bytes) {
    const std::string piece = stream.Push({&byte, 1});
    EXPECT_TRUE(IsValidUtf8(piece));
    EXPECT_LE(stream.pending_bytes(), 3u);
    text += piece;
  }
  return text + stream.Finish();
}

struct Case {
  std::string bytes;
  int replacements;  // U+FFFD that come out
  std::string rest;  // what follows them
};

// "x" marks where the next text begins; Unicode 15, section 3.9, tables 3-8 to 3-11 among them.
std::vector<Case> BrokenCases() {
  return {
      {"\x80", 1, ""},
      {"\xBF", 1, ""},
      {"\xC0\xAF", 2, ""},  // overlong /
      {"\xC1\xBF", 2, ""},
      {"\xC2", 1, ""},  // ends early
      {"\xC2\x41", 1, "A"},
      {"\xE0\x80\xAF", 3, ""},  // overlong
      {"\xE0\x9F\xBF", 3, ""},
      {"\xE0\xA0", 1, ""},
      {"\xE1\x80\x41", 1, "A"},
      {"\xED\xA0\x80", 3, ""},  // surrogate
      {"\xED\xBF\xBF", 3, ""},
      {"\xF0\x80\x80\xAF", 4, ""},  // overlong
      {"\xF0\x8F\xBF\xBF", 4, ""},
      {"\xF0\x90\x80", 1, ""},
      {"\xF0\x9F\x98\x41", 1, "A"},
      {"\xF4\x90\x80\x80", 4, ""},  // above U+10FFFF
      {"\xF5\x80\x80\x80", 4, ""},
      {"\xFE\xFF", 2, ""},
      {"\xF4\x91\x92\x93\xFF\x41", 5, "A"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 4, "A"},  // table 3-11
  };
}

std::string Expected(const Case& c) {
  std::string text;
  for (int i = 0; i < c.replacements; ++i) text += kReplacement;
  return text + c.rest;
}

TEST(Utf8Stream, ReplacesEachMaximalSubpart) {
  for (const Case& c : BrokenCases()) {
    EXPECT_FALSE(IsValidUtf8(c.bytes));
    EXPECT_EQ(Whole(c.bytes), Expected(c)) << ::testing::PrintToString(c.bytes);
    EXPECT_EQ(ByteByByte(c.bytes), Expected(c)) << ::testing::PrintToString(c.bytes);
    EXPECT_EQ(Whole(absl::StrCat("<", c.bytes, ">")), absl::StrCat("<", Expected(c), ">"));
  }
}

TEST(Utf8Stream, KeepsTheEdgesOfEveryRange) {
  for (const std::string& text :
       {std::string("\0", 1), std::string("\x7F"), std::string("\xC2\x80"), std::string("\xDF\xBF"),
        std::string("\xE0\xA0\x80"), std::string("\xED\x9F\xBF"), std::string("\xEE\x80\x80"),
        std::string("\xEF\xBF\xBF"), std::string("\xF0\x90\x80\x80"),
        std::string("\xF4\x8F\xBF\xBF")}) {
    EXPECT_TRUE(IsValidUtf8(text));
    EXPECT_EQ(Whole(text), text);
    EXPECT_EQ(ByteByByte(text), text);
  }
}

TEST(Utf8Stream, SplitsAnywhereGiveTheSameText) {
  const std::string text = "plain, é ß 中文 \xF0\x9F\x98\x80 \xED\xA0\x80 \xC2 end\xE4\xB8";
  const std::string whole = Whole(text);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Utf8Stream stream;
    std::string joined = stream.Push(text.substr(0, cut));
    EXPECT_TRUE(IsValidUtf8(joined));
    joined += stream.Push(text.substr(cut));
    joined += stream.Finish();
    EXPECT_EQ(joined, whole) << cut;
  }
}

TEST(Utf8Stream, HoldsBackOnlyWhatMayBecomeText) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xF0\x9F\x98"), "a");
  EXPECT_EQ(stream.pending_bytes(), 3u);
  EXPECT_EQ(stream.Push("\x80z"), "\xF0\x9F\x98\x80z");
  EXPECT_EQ(stream.pending_bytes(), 0u);
  EXPECT_EQ(stream.Finish(), "");
  EXPECT_EQ(stream.Push("\xE4"), "");
  EXPECT_EQ(stream.Finish(), kReplacement);
  // Ready for another text.
  EXPECT_EQ(stream.Push("b"), "b");
}

TEST(Utf8Stream, AnyBytesBecomeValidTextHoweverTheyArrive) {
  std::mt19937 bits(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (uint32_t i = bits() % 24; i-- > 0;) {
      // Mostly bytes that begin or continue something.
      bytes.push_back(static_cast<char>(bits() % 4 == 0 ? bits() : 0x80 | bits()));
    }
    const std::string whole = Whole(bytes);
    EXPECT_TRUE(IsValidUtf8(whole));
    EXPECT_EQ(ByteByByte(bytes), whole);
    if (IsValidUtf8(bytes)) {
      EXPECT_EQ(whole, bytes);
    }
  }
}

}  // namespace
}  // namespace dreamstate::text
