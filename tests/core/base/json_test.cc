#include "core/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace dreamstate {
namespace {

using ::testing::HasSubstr;

std::string Refusal(std::string_view text, int deepest = 4) {
  const auto parsed = ParseJsonObject("a.json", text, deepest);
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(parsed.status().message());
}

TEST(JsonTest, GivesTheObject) {
  const auto parsed = ParseJsonObject("a.json", R"({"a": [1, {"a": 2}], "b": {"a": 3}})", 4);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ((*parsed)["a"][1]["a"], 2);
  EXPECT_EQ((*parsed)["b"]["a"], 3);
}

TEST(JsonTest, NamesThePlaceOfASyntaxError) {
  EXPECT_EQ(Refusal("{\n \"a\": 1,\n}"),
            "a.json: expected a JSON object, found a syntax error at line 3, column 1");
  EXPECT_THAT(Refusal(""), HasSubstr("syntax error at line 1"));
  EXPECT_THAT(Refusal("{\"a\": \"\xff\"}"), HasSubstr("syntax error at line 1"));
  EXPECT_THAT(Refusal(R"({"a": 1e400})"), HasSubstr("number that JSON readers cannot hold"));
}

TEST(JsonTest, RefusesWhatReadersMayTakeDifferently) {
  EXPECT_THAT(Refusal(std::string("{}\0{", 4)), HasSubstr("found a NUL"));
  EXPECT_EQ(Refusal(R"({"a": {"b": 1, "b": 2}})"), "a.json: the key \"b\" stands twice");
  EXPECT_EQ(Refusal("[1]"), "a.json: expected a JSON object");
}

TEST(JsonTest, RefusesDeepNestingWithoutRecursion) {
  EXPECT_TRUE(ParseJsonObject("a.json", R"({"a": [[1]]})", 3).ok());
  EXPECT_THAT(Refusal(R"({"a": [[[1]]]})", 3), HasSubstr("nested too deeply"));
  const size_t levels = 1000000;
  const std::string deep = "{\"a\": " + std::string(levels, '[') + std::string(levels, ']') + "}";
  EXPECT_THAT(Refusal(deep), HasSubstr("nested too deeply"));
}

}  // namespace
}  // namespace dreamstate
