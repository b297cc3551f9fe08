#include "core/picture/palette.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace dreamstate::picture {
namespace {

// Lightness L* of CIE 1976.
double Lightness(Rgb colour) {
  const auto linear = [](uint8_t byte) {
    const double c = byte / 255.0;
    return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  };
  const double y =
      0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue);
  return y > 0.008856 ? 116 * std::cbrt(y) - 16 : 903.3 * y;
}

TEST(Viridis, BeginsAndEndsAsPublished) {
  EXPECT_EQ(Viridis(0), (Rgb{0x44, 0x01, 0x54}));
  EXPECT_EQ(Viridis(0.5), (Rgb{0x21, 0x90, 0x8c}));
  EXPECT_EQ(Viridis(1), (Rgb{0xfd, 0xe7, 0x25}));
}

TEST(Viridis, EqualStepsGrowLighterByEqualParts) {
  constexpr int kSteps = 64;
  const double part = (Lightness(Viridis(1)) - Lightness(Viridis(0))) / kSteps;
  for (int i = 0; i < kSteps; ++i) {
    const double step =
        Lightness(Viridis((i + 1.0) / kSteps)) - Lightness(Viridis(1.0 * i / kSteps));
    EXPECT_GT(step, 0.5 * part) << i;
    EXPECT_LT(step, 1.5 * part) << i;
  }
}

TEST(Viridis, ClampsAndShowsWhatIsNoNumber) {
  EXPECT_EQ(Viridis(-1), Viridis(0));
  EXPECT_EQ(Viridis(2), Viridis(1));
  EXPECT_EQ(Viridis(std::nan("")), kNoValue);
}

TEST(Scale, IsLinearForValuesOfOneMagnitude) {
  const std::vector<float> values = {2, 1, 3};
  const Scale scale = Scale::Of(values);
  EXPECT_FALSE(scale.logarithmic);
  EXPECT_EQ(scale.low, 1);
  EXPECT_EQ(scale.high, 3);
  EXPECT_DOUBLE_EQ(scale.PositionOf(2), 0.5);
  EXPECT_DOUBLE_EQ(scale.ValueAt(0.5), 2);
  EXPECT_EQ(scale.PositionOf(0), 0);
  EXPECT_EQ(scale.PositionOf(9), 1);
}

TEST(Scale, IsLogarithmicOverManyMagnitudesAndKeepsZeroAtTheBottom) {
  const std::vector<float> values = {0, 0.01f, 1, 100};
  const Scale scale = Scale::Of(values);
  EXPECT_TRUE(scale.logarithmic);
  EXPECT_NEAR(scale.PositionOf(1), 0.5, 1e-6);
  EXPECT_NEAR(scale.ValueAt(0.5), 1, 1e-6);
  EXPECT_EQ(scale.PositionOf(0), 0);
}

TEST(Scale, LooksOnlyAtFiniteValues) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {std::nanf(""), 4, infinity, 5};
  const Scale scale = Scale::Of(values);
  EXPECT_EQ(scale.low, 4);
  EXPECT_EQ(scale.high, 5);
  EXPECT_TRUE(std::isnan(scale.PositionOf(infinity)));
  const std::vector<float> none = {infinity};
  EXPECT_EQ(Scale::Of(none).high, 0);
  EXPECT_EQ(Scale::Of({}).high, 0);
}

TEST(Scale, OneValueIsAtTheBottom) {
  const std::vector<float> values = {0, 0};
  EXPECT_EQ(Scale::Of(values).PositionOf(0), 0);
  const std::vector<float> negative = {-7, 100};
  EXPECT_FALSE(Scale::Of(negative).logarithmic);
}

}  // namespace
}  // namespace dreamstate::picture
