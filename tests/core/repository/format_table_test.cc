#include "core/repository/format_table.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::repository {
namespace {

Manifest WithConfig(nlohmann::json config) {
  Manifest manifest;
  manifest.components.push_back({.kind = "backbone", .config = std::move(config)});
  return manifest;
}

TEST(FormatTable, APolicySurvivesTheManifest) {
  rwkv::FormatTable table;
  table.bytes = 2048;
  table.fp32 = table.bf16 = table.int8 = 1.25;
  table.kinds.fill(1.25);
  table.kinds[static_cast<int>(rwkv::MatrixKind::kFfnValue)] = 1.5;
  table.policy = rwkv::FormatPolicy::Default();
  table.policy.int8[static_cast<int>(rwkv::MatrixKind::kFfnValue)] = false;
  const nlohmann::json json = FormatTableJson(table);
  EXPECT_EQ(json["bits_per_byte"]["int8 ffn.value only"], 1.5);
  EXPECT_EQ(json["text_bytes"], 2048);
  const auto text = json.dump();
  const auto policy =
      FormatPolicyOf(WithConfig({{kFormatTableField, nlohmann::json::parse(text)}}));
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(*policy, table.policy);
}

TEST(FormatTable, WithoutATableTheDefaultHolds) {
  EXPECT_EQ(FormatPolicyOf(Manifest()).value(), rwkv::FormatPolicy::Default());
  EXPECT_EQ(FormatPolicyOf(WithConfig({{"layers", 2}})).value(), rwkv::FormatPolicy::Default());
}

TEST(FormatTable, WhatIsNoListOfKindsIsRefusedByName) {
  for (const auto& [table, found] : std::vector<std::pair<nlohmann::json, std::string>>{
           {5, "none"},
           {nlohmann::json::object(), "none"},
           {{{"int8", "att.key"}}, "none"},
           {{{"int8", {1}}}, "number"},
           {{{"int8", {"att.key", "att.keys"}}}, "\"att.keys\""}}) {
    const auto policy = FormatPolicyOf(WithConfig({{kFormatTableField, table}}));
    EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument) << table;
    EXPECT_THAT(std::string(policy.status().message()),
                testing::AllOf(testing::HasSubstr("weight_formats.int8"),
                               testing::HasSubstr("found " + found)));
  }
}

}  // namespace
}  // namespace dreamstate::repository
