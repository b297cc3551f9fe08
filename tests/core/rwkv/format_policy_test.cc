#include "core/rwkv/format_policy.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/rwkv/weights.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::rwkv {
namespace {

using dreamstate::testing::RandomBackbone;
using dreamstate::testing::SmallConfig;

TEST(FormatPolicy, KindsThatCostMoreThanTheThresholdStayBf16) {
  FormatTable table;
  table.bf16 = 1.0;
  table.kinds.fill(1.0);
  table.kinds[static_cast<int>(MatrixKind::kKey)] = 0.9;  // a gain is no reason against it
  table.kinds[static_cast<int>(MatrixKind::kValue)] = 1.0 + kMostInt8Rise * 0.99;
  table.kinds[static_cast<int>(MatrixKind::kFfnValue)] = 1.0 + kMostInt8Rise * 1.01;
  table.kinds[static_cast<int>(MatrixKind::kHead)] = std::numeric_limits<double>::quiet_NaN();
  ASSERT_TRUE(ChooseKinds([](const FormatPolicy&) { return 1.0; }, &table).ok());
  const FormatPolicy& policy = table.policy;
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    const bool spoiled = kind == static_cast<int>(MatrixKind::kFfnValue) ||
                         kind == static_cast<int>(MatrixKind::kHead);
    EXPECT_EQ(policy.int8[kind], !spoiled) << MatrixKindName(static_cast<MatrixKind>(kind));
  }
}

// Kinds that pass one by one, and cost as much together as their sum.
TEST(FormatPolicy, TheWorstKindsGoUntilAllTogetherAreWithinTheBound) {
  FormatTable table;
  table.bf16 = 1.0;
  const double rises[kMatrixKinds] = {0.0019, 0.0011, 0.0013, 0.0017, 0.0012, 0.0018, 0.0014};
  for (int kind = 0; kind < kMatrixKinds; ++kind) table.kinds[kind] = 1.0 + rises[kind];
  int measured = 0;
  const auto sum = [&](const FormatPolicy& policy) {
    ++measured;
    double loss = 1.0;
    for (int kind = 0; kind < kMatrixKinds; ++kind) loss += policy.int8[kind] ? rises[kind] : 0;
    return loss;
  };
  ASSERT_TRUE(ChooseKinds(sum, &table).ok());
  EXPECT_EQ(table.policy.Letters(), "kvK");
  EXPECT_NEAR(table.int8, 1.0036, 1e-9);
  EXPECT_EQ(measured, 5);
}

TEST(FormatPolicy, WhatIsSpoiledTogetherWhateverGoesHasNoKindInInt8) {
  for (const double together : {2.0, std::numeric_limits<double>::quiet_NaN()}) {
    FormatTable table;
    table.bf16 = 1.0;
    table.kinds.fill(1.0);
    ASSERT_TRUE(ChooseKinds([&](const FormatPolicy&) { return together; }, &table).ok());
    EXPECT_FALSE(table.policy.any());
    EXPECT_EQ(table.int8, 1.0);
  }
  FormatTable table;
  const auto fails = [](const FormatPolicy&) -> absl::StatusOr<double> {
    return absl::InternalError("no");
  };
  EXPECT_EQ(ChooseKinds(fails, &table), absl::InternalError("no"));
}

TEST(FormatPolicy, MeasuresEveryKindOnAText) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 3);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 700; ++i) tokens.push_back(i * 31 % 50);  // more than one chunk
  kernels::ThreadPool pool(2);
  const FormatTable table = MeasureFormats(set, tokens, 1000, pool).value();
  EXPECT_EQ(table.bytes, 1000);
  // A random model is a little worse than a uniform guess: log2(50) bits a token.
  EXPECT_NEAR(table.fp32, std::log2(50.0) * 0.7, 1.0);
  EXPECT_NEAR(table.bf16, table.fp32, 0.02);
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    EXPECT_NEAR(table.kinds[kind], table.bf16, 0.02);
    EXPECT_NE(table.kinds[kind], table.bf16) << MatrixKindName(static_cast<MatrixKind>(kind));
  }
  EXPECT_LE(table.int8, table.bf16 + kMostInt8RiseTogether);
}

TEST(FormatPolicy, RefusesATextOfNothing) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 3);
  kernels::ThreadPool pool(1);
  const std::vector<int32_t> one = {1};
  const std::vector<int32_t> two = {1, 2};
  EXPECT_EQ(MeasureFormats(set, one, 5, pool).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MeasureFormats(set, two, 0, pool).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dreamstate::rwkv
