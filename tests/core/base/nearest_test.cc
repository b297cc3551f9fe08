#include "core/base/nearest.h"

#include <vector>

#include "gtest/gtest.h"

namespace dreamstate {
namespace {

TEST(Nearest, IsTheKnownNameWithTheFewestEdits) {
  const std::vector<std::string> known = {"steps", "seed", "threads", "precision"};
  EXPECT_EQ(Nearest("step", known), "steps");
  EXPECT_EQ(Nearest("sed", known), "seed");
  EXPECT_EQ(Nearest("thraeds", known), "threads");
  EXPECT_EQ(Nearest("precison", known), "precision");
  EXPECT_EQ(Nearest("seed", known), "seed");
  // Something is always nearest.
  EXPECT_FALSE(Nearest("", known).empty());
  EXPECT_EQ(Nearest("x", std::vector<std::string>{"alone"}), "alone");
}

}  // namespace
}  // namespace dreamstate
