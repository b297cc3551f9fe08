#include "core/picture/line_chart.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace dreamstate::picture {
namespace {

// Pixels of a curve's colour: drawn in one chart, not in the same chart without the curve.
int Drawn(const LineChart& chart) {
  LineChart bare = chart;
  for (Series& series : bare.series) series.y.assign(series.y.size(), NAN);
  const Image with = Draw(chart).value(), without = Draw(bare).value();
  int count = 0;
  for (int y = 0; y < with.height(); ++y) {
    for (int x = 0; x < with.width(); ++x) count += !(with.At(x, y) == without.At(x, y));
  }
  return count;
}

LineChart Losses() {
  return {.title = "losses",
          .x_axis = "tokens",
          .y_axis = "nats",
          .series = {{.name = "training", .x = {0, 1, 2, 3}, .y = {5, 3, 2.5, 2.4}},
                     {.name = "validation", .x = {1, 3}, .y = {3.2, 2.6}, .markers = true}}};
}

TEST(LineChart, DrawsItsCurves) {
  const auto image = Draw(Losses());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->width(), 960);
  EXPECT_EQ(image->height(), 540);
  EXPECT_GT(Drawn(Losses()), 1000);
}

TEST(LineChart, LeavesOutWhatIsNotFinite) {
  LineChart chart = Losses();
  chart.series[0].y = {5, std::numeric_limits<double>::infinity(), NAN, 2.4};
  EXPECT_TRUE(Draw(chart).ok());
  for (Series& series : chart.series) series.x = series.y = {};
  EXPECT_TRUE(Draw(chart).ok()) << "empty axes";
  // One point, and values that are all the same, have no range.
  chart.series = {{.name = "one", .x = {2}, .y = {7}}};
  EXPECT_TRUE(Draw(chart).ok());
  chart.series = {{.name = "huge", .x = {0, 1e300}, .y = {-1e300, 1e300}}};
  EXPECT_TRUE(Draw(chart).ok());
}

TEST(LineChart, RefusesSizesThatDoNotFit) {
  LineChart chart = Losses();
  chart.series[0].x.pop_back();
  EXPECT_EQ(Draw(chart).status().code(), absl::StatusCode::kInvalidArgument);
  chart = Losses();
  chart.width = 10;
  EXPECT_EQ(Draw(chart).status().code(), absl::StatusCode::kInvalidArgument);
  chart = Losses();
  chart.series.resize(7);
  EXPECT_EQ(Draw(chart).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dreamstate::picture
