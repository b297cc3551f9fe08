#include "client/utf8.h"

#include <string>

#include "client/names.h"
#include "gtest/gtest.h"

namespace dreamstate::client {
namespace {

TEST(Utf8, AcceptsExactlyWhatTheStandardDoes) {
  for (const std::string good :
       {"", "plain", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a\xc3\xa9z"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << good;
  }
  EXPECT_TRUE(IsValidUtf8(std::string("\0", 1)));
  for (const std::string bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2g", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_FALSE(IsValidUtf8(bad));
    EXPECT_FALSE(IsValidUtf8("a" + bad));
  }
}

TEST(Utf8, ReplacesOnlyWhatIsWrong) {
  EXPECT_EQ(ToValidUtf8("a\xff\xc3\xa9\xe2\x82z", "?"), "a?\xc3\xa9??z");
  EXPECT_TRUE(IsValidUtf8(ToValidUtf8("\xf0\x90\x80", "?")));
}

TEST(Utf8, TextThatIsNotUtf8TravelsAsRawBytes) {
  EXPECT_EQ(TextInputOf("caf\xc3\xa9").text(), "caf\xc3\xa9");
  EXPECT_EQ(TextInputOf("caf\xe9").raw(), "caf\xe9");
  EXPECT_FALSE(TextInputOf("caf\xe9").has_text());
}

TEST(Names, MayBeShortenedToTheirIds) {
  EXPECT_EQ(StateName("x"), "states/x");
  EXPECT_EQ(StateName("states/x"), "states/x");
  EXPECT_EQ(StateName(""), "");
  EXPECT_EQ(ModelName("m"), "models/m");
  EXPECT_EQ(IdOf("states/x"), "x");
  EXPECT_EQ(IdOf("x"), "x");
}

}  // namespace
}  // namespace dreamstate::client
