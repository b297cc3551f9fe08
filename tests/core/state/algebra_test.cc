#include "core/state/algebra.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/draws.h"

namespace dreamstate::state {
namespace {

using ::testing::HasSubstr;

constexpr Shape kShape = {.layers = 2, .width = 6, .heads = 3, .head_size = 2};

State Made(uint64_t seed) {
  State state = State::Empty(kShape);
  Draws draws(seed, 1, 0);
  for (float& value : state.shift) value = static_cast<float>(draws.Uniform() - 0.5);
  for (float& value : state.wkv) value = static_cast<float>(draws.Uniform() - 0.5);
  return state;
}

double HeadNorm(const State& state, size_t head) {
  double sum = 0;
  for (size_t i = 0; i < 4; ++i) sum += std::pow(double{state.wkv[head * 4 + i]}, 2);
  return std::sqrt(sum);
}

TEST(Algebra, WeightedSumsAreTheSumOfTheirParts) {
  const State a = Made(1), b = Made(2);
  const WeightedState list[] = {{&a, 2}, {nullptr, 5}, {&b, -0.5}};
  const State sum = WeightedSum(list);
  for (size_t i = 0; i < sum.wkv.size(); ++i) {
    EXPECT_FLOAT_EQ(sum.wkv[i], 2 * a.wkv[i] - 0.5f * b.wkv[i]);
  }
  for (size_t i = 0; i < sum.shift.size(); ++i) {
    EXPECT_FLOAT_EQ(sum.shift[i], 2 * a.shift[i] - 0.5f * b.shift[i]);
  }
}

TEST(Algebra, InterpolationsBeginAndEndAtTheirEnds) {
  const State a = Made(1), b = Made(2);
  EXPECT_EQ(Linear(a, b, 0), a);
  EXPECT_EQ(Linear(a, b, 1), b);
  for (const auto& [fraction, end] : {std::pair{0.0, &a}, std::pair{1.0, &b}}) {
    const State mixed = Spherical(a, b, fraction);
    for (size_t i = 0; i < mixed.wkv.size(); ++i) ASSERT_NEAR(mixed.wkv[i], end->wkv[i], 1e-6);
    for (size_t i = 0; i < mixed.shift.size(); ++i) {
      ASSERT_NEAR(mixed.shift[i], end->shift[i], 1e-6);
    }
  }
}

TEST(Algebra, SphericalKeepsTheNormThatLinearLoses) {
  const State a = Made(1), b = Made(2);
  const State spherical = Spherical(a, b, 0.5), linear = Linear(a, b, 0.5);
  for (size_t head = 0; head < 6; ++head) {
    const double between = (HeadNorm(a, head) + HeadNorm(b, head)) / 2;
    EXPECT_NEAR(HeadNorm(spherical, head), between, 1e-6);
    EXPECT_LT(HeadNorm(linear, head), between);
  }
}

TEST(Algebra, SphericalOfOppositeOrZeroMatricesIsLinear) {
  const State a = Made(1);
  State opposite = a;
  for (float& value : opposite.wkv) value = -value;
  for (float& value : opposite.shift) value = 0;
  const State mixed = Spherical(a, opposite, 0.25);
  EXPECT_TRUE(mixed.Validate().ok());
  for (size_t i = 0; i < mixed.wkv.size(); ++i) EXPECT_NEAR(mixed.wkv[i], a.wkv[i] / 2, 1e-6);
  for (size_t i = 0; i < mixed.shift.size(); ++i) {
    EXPECT_NEAR(mixed.shift[i], 0.75f * a.shift[i], 1e-6);
  }
}

TEST(Algebra, MasksChooseMatricesAndLeaveShiftsUnlessAllAreChosen) {
  const State a = Made(1), b = Made(2);
  const int layer[] = {1}, heads[] = {0, 2};
  const HeadMask mask = MakeHeadMask(kShape, layer, heads).value();
  EXPECT_EQ(mask, (HeadMask{false, false, false, true, false, true}));
  const State masked = Masked(a, b, mask);
  EXPECT_EQ(masked.shift, a.shift);
  for (size_t i = 0; i < masked.wkv.size(); ++i) {
    EXPECT_EQ(masked.wkv[i], mask[i / 4] ? b.wkv[i] : a.wkv[i]);
  }
  EXPECT_EQ(Masked(a, b, MakeHeadMask(kShape, {}, {}).value()), b);
}

TEST(Algebra, MasksOfWhatIsNotThereAreNamed) {
  const int layers[] = {0, 2}, twice[] = {1, 1};
  EXPECT_THAT(std::string(MakeHeadMask(kShape, layers, {}).status().message()),
              HasSubstr("layers[1]: expected 0 to 1, found 2"));
  EXPECT_THAT(std::string(MakeHeadMask(kShape, {}, twice).status().message()),
              HasSubstr("heads[1]: 1 was named before"));
}

TEST(Algebra, NormsAndDistancesAreOfTheMatrices) {
  State a = State::Empty(kShape), b = a;
  a.wkv[0] = 3;
  b.wkv[5] = 4;
  b.shift[0] = 100;
  EXPECT_DOUBLE_EQ(NormOf(a), 3);
  EXPECT_DOUBLE_EQ(DistanceOf(a, b), 5);
}

}  // namespace
}  // namespace dreamstate::state
