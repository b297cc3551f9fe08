#include "core/tensors/from_float.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::tensors {
namespace {

using ::testing::HasSubstr;

float HalfToFloat(uint16_t half) {
  const Tensor tensor{"x", DType::kF16, {1}, std::as_bytes(std::span(&half, 1))};
  float value = 0;
  EXPECT_TRUE(ToFloat(tensor, std::span(&value, 1)).ok());
  return value;
}

TEST(FromFloat, EveryHalfComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value))));
    } else {
      ASSERT_EQ(FloatToHalf(value), half) << value;
    }
  }
}

TEST(FromFloat, BetweenTwoHalvesTheNearestIsTakenAndOfTwoTheEven) {
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const uint16_t next = static_cast<uint16_t>(half + 1);
    // The middle has one more bit than a half and is exact.
    const float middle = (HalfToFloat(half) + HalfToFloat(next)) / 2;
    const uint16_t even = half % 2 == 0 ? half : next;
    ASSERT_EQ(FloatToHalf(middle), even) << half;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), half);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 1e9f)), next);
    ASSERT_EQ(FloatToHalf(-middle), even | 0x8000);
  }
}

TEST(FromFloat, WhatHalvesCannotHoldBecomesInfiniteOrZero) {
  EXPECT_EQ(FloatToHalf(65504), 0x7bff);
  EXPECT_EQ(FloatToHalf(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520), 0x7c00);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::max()), 0xfc00);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
}

TEST(FromFloat, AppendsEachDType) {
  const std::vector<float> values = {1, -2, 0.5f};
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::string bytes = "before";
    ASSERT_TRUE(AppendFromFloat(values, dtype, &bytes).ok());
    ASSERT_EQ(bytes.substr(0, 6), "before");
    const std::string data = bytes.substr(6);
    std::vector<float> back(3);
    ASSERT_TRUE(
        ToFloat({"x", dtype, {3}, std::as_bytes(std::span(data.data(), data.size()))}, back).ok());
    EXPECT_EQ(back, values);
  }
}

TEST(FromFloat, ValuesThatDoNotFitAreRefusedByName) {
  std::string bytes = "before";
  const absl::Status half = AppendFromFloat(std::vector<float>{1, 70000}, DType::kF16, &bytes);
  EXPECT_THAT(std::string(half.message()), HasSubstr("70000"));
  EXPECT_EQ(bytes, "before");
  EXPECT_FALSE(
      AppendFromFloat(std::vector<float>{std::numeric_limits<float>::max()}, DType::kBF16, &bytes)
          .ok());
  EXPECT_TRUE(AppendFromFloat(std::vector<float>{3.3e38f}, DType::kBF16, &bytes).ok());
  EXPECT_FALSE(AppendFromFloat(std::vector<float>{1}, DType::kI32, &bytes).ok());
}

}  // namespace
}  // namespace dreamstate::tensors
