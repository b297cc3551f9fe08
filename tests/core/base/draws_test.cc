#include "core/base/draws.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate {
namespace {

TEST(Draws, ChooseGivesDifferentOnesInAnyOrder) {
  Draws draws(3, 1, 0);
  std::vector<int> first(5);
  for (int i = 0; i < 5000; ++i) {
    const std::vector<int32_t> chosen = draws.Choose(3, 5);
    ASSERT_EQ(chosen.size(), 3u);
    EXPECT_THAT(chosen, ::testing::Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(5))));
    EXPECT_NE(chosen[0], chosen[1]);
    EXPECT_NE(chosen[1], chosen[2]);
    EXPECT_NE(chosen[0], chosen[2]);
    ++first[chosen[0]];
  }
  EXPECT_THAT(first, ::testing::Each(::testing::AllOf(::testing::Gt(850), ::testing::Lt(1150))));
  EXPECT_EQ(draws.Choose(9, 4).size(), 4u);
}

TEST(Draws, StreamsAreApart) {
  Draws a(3, 1, 0), b(3, 2, 0), c(3, 1, 1), d(4, 1, 0), again(3, 1, 0);
  const uint32_t n = 1u << 31;
  const uint32_t value = a.Below(n);
  EXPECT_NE(value, b.Below(n));
  EXPECT_NE(value, c.Below(n));
  EXPECT_NE(value, d.Below(n));
  EXPECT_EQ(value, again.Below(n));
}

}  // namespace
}  // namespace dreamstate
