#include "core/training/ranks.h"

#include <cstdlib>

#include "core/training/rank_share.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::training {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RanksTest : public ::testing::Test {
 protected:
  RanksTest() { Clear(); }
  ~RanksTest() override { Clear(); }
  static void Clear() {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
      unsetenv(name);
    }
  }
  static std::string Wrong() { return std::string(RanksFromEnvironment().status().message()); }
};

TEST_F(RanksTest, AProcessWithoutTheEnvironmentIsAlone) {
  const Ranks ranks = RanksFromEnvironment().value();
  EXPECT_TRUE(ranks.alone());
  EXPECT_EQ(ranks.rank, 0);
}

TEST_F(RanksTest, TorchrunsEnvironmentIsRead) {
  setenv("RANK", "3", 1);
  setenv("WORLD_SIZE", "4", 1);
  setenv("LOCAL_RANK", "1", 1);
  setenv("MASTER_ADDR", "10.0.0.1", 1);
  setenv("MASTER_PORT", "29500", 1);
  const Ranks ranks = RanksFromEnvironment().value();
  EXPECT_EQ(ranks.rank, 3);
  EXPECT_EQ(ranks.size, 4);
  EXPECT_EQ(ranks.local_rank, 1);
  EXPECT_EQ(ranks.address, "10.0.0.1");
  EXPECT_EQ(ranks.port, 29500);
}

TEST_F(RanksTest, WhatIsMissingOrWrongIsNamed) {
  setenv("RANK", "1", 1);
  EXPECT_THAT(Wrong(), HasSubstr("WORLD_SIZE"));
  setenv("WORLD_SIZE", "two", 1);
  EXPECT_THAT(Wrong(), HasSubstr("\"two\""));
  setenv("WORLD_SIZE", "2", 1);
  EXPECT_THAT(Wrong(), HasSubstr("MASTER_ADDR"));
  setenv("MASTER_ADDR", "localhost", 1);
  EXPECT_THAT(Wrong(), HasSubstr("MASTER_PORT"));
  setenv("MASTER_PORT", "70000", 1);
  EXPECT_THAT(Wrong(), HasSubstr("1 to 65535"));
  setenv("MASTER_PORT", "29500", 1);
  EXPECT_TRUE(RanksFromEnvironment().ok());
  setenv("RANK", "2", 1);
  EXPECT_THAT(Wrong(), HasSubstr("RANK: expected 0 to 1"));
}

TEST(RankShare, RanksTogetherHaveEveryRowOnce) {
  Batch batch = {.rows = 5, .tokens = 2};
  for (int i = 0; i < 10; ++i) {
    batch.inputs.push_back(i);
    batch.targets.push_back(i + 1);
  }
  for (int row = 0; row < 5; ++row) batch.row.push_back({.label = row});
  const RankShare second = ShareOf(batch, {.rank = 1, .size = 2});
  EXPECT_THAT(second.rows, ElementsAre(1, 3));
  EXPECT_EQ(second.batch.rows, 2);
  EXPECT_THAT(second.batch.inputs, ElementsAre(2, 3, 6, 7));
  EXPECT_THAT(second.batch.targets, ElementsAre(3, 4, 7, 8));
  EXPECT_EQ(second.batch.row[1].label, 3);
  EXPECT_THAT(ShareOf(batch, {.rank = 0, .size = 2}).rows, ElementsAre(0, 2, 4));
  EXPECT_THAT(ShareOf(batch, {.rank = 6, .size = 8}).rows, IsEmpty());
}

}  // namespace
}  // namespace dreamstate::training
