#include "core/picture/heat_map.h"

#include <cmath>
#include <utility>
#include <vector>

#include "core/picture/png.h"
#include "gtest/gtest.h"

namespace dreamstate::picture {
namespace {

HeatMap MapOf(int rows, int columns, const std::vector<float>& values) {
  HeatMap map;
  map.title = "RMS of every matrix";
  map.subtitle = "states/x";
  map.row_axis = "layer";
  map.column_axis = "head";
  map.rows = rows;
  map.columns = columns;
  map.values = values;
  map.scale = Scale::Of(values);
  return map;
}

int CountOf(const Image& image, Rgb colour) {
  int count = 0;
  for (int y = 0; y < image.height(); ++y) {
    for (int x = 0; x < image.width(); ++x) count += image.At(x, y) == colour;
  }
  return count;
}

TEST(HeatMap, EveryValueHasACellOfItsColour) {
  // In the order of reading; a legend holds each colour too, but in lines of 20 pixels only.
  const std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const auto image = Draw(MapOf(2, 3, values));
  ASSERT_TRUE(image.ok()) << image.status();
  for (const float value : values) EXPECT_GT(CountOf(*image, Viridis(value / 5)), 39 * 60) << value;
}

TEST(HeatMap, FitsEverySizeOfModel) {
  for (const auto& [rows, columns] : std::vector<std::pair<int, int>>{
           {1, 1}, {12, 1}, {12, 12}, {24, 16}, {32, 40}, {61, 64}, {1, 64}}) {
    std::vector<float> values(static_cast<size_t>(rows) * columns);
    for (size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>(i);
    const auto image = Draw(MapOf(rows, columns, values));
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_LE(image->width(), 900) << rows << " x " << columns;
    EXPECT_LE(image->height(), 900) << rows << " x " << columns;
    EXPECT_TRUE(EncodePng(*image).ok());
  }
}

TEST(HeatMap, AValueThatIsNotFiniteIsGrey) {
  const std::vector<float> values = {1, std::nanf("")};
  const auto image = Draw(MapOf(1, 2, values));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_GT(CountOf(*image, kNoValue), 39 * 60);
}

TEST(HeatMap, RefusesSizesThatDoNotFit) {
  const std::vector<float> values = {1, 2, 3};
  for (const auto& [rows, columns] :
       std::vector<std::pair<int, int>>{{2, 2}, {0, 3}, {3, 0}, {-1, -3}, {5000, 1}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Draw(MapOf(rows, columns, values)).status())) << rows;
  }
}

TEST(HeatMap, NumbersHaveThreeDigits) {
  EXPECT_EQ(ShowNumber(0.021345), "0.0213");
  EXPECT_EQ(ShowNumber(1.5), "1.5");
  EXPECT_EQ(ShowNumber(1234567), "1.23e+06");
}

}  // namespace
}  // namespace dreamstate::picture
