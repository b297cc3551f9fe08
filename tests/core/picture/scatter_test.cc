#include "core/picture/scatter.h"

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "core/picture/png.h"
#include "core/picture/scatter_frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::picture {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Scatter TwoGroups() {
  return {.title = "A map of states",
          .subtitle = "4 states",
          .x_axis = "direction 1",
          .y_axis = "direction 2",
          .groups = {"code", "prose"},
          .points = {{.x = 0, .y = 0, .group = 0, .text = "states/a\ncode"},
                     {.x = 10, .y = 0, .group = 1, .text = "states/b\nprose"},
                     {.x = 0, .y = 5, .group = 0, .text = "states/c\ncode"},
                     {.x = 10, .y = 5, .group = 1, .text = "states/d\nprose"}}};
}

int CountOf(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// Left and right end of a colour in the image.
std::pair<int, int> Extent(const Image& image, Rgb colour) {
  int left = image.width(), right = -1;
  for (int y = 0; y < image.height(); ++y) {
    for (int x = 0; x < image.width(); ++x) {
      if (image.At(x, y) == colour) left = std::min(left, x), right = std::max(right, x);
    }
  }
  return {left, right};
}

TEST(Scatter, EveryGroupHasItsColourAtItsPlace) {
  Scatter scatter = TwoGroups();
  const auto both = Draw(scatter);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->width(), 960);
  EXPECT_EQ(both->height(), 720);
  EXPECT_TRUE(EncodePng(*both).ok());
  // The legend's marks are furthest to the right.
  const auto code = Extent(*both, MarkOf(0).colour), prose = Extent(*both, MarkOf(1).colour);
  EXPECT_LT(code.first, 200);
  EXPECT_GT(prose.first, 400);
  EXPECT_EQ(code.second, prose.second);
}

TEST(Scatter, BothAxesHaveOneScale) {
  const ScatterFrame frame(TwoGroups(), 100, 50, 400, 400);
  EXPECT_DOUBLE_EQ(frame.X(10) - frame.X(0), 2 * (frame.Y(0) - frame.Y(5)));
  EXPECT_GT(frame.X(0), 100);
  EXPECT_LT(frame.X(10), 500);
  EXPECT_DOUBLE_EQ(frame.X(5), 300);
  EXPECT_DOUBLE_EQ(frame.Y(2.5), 250);
}

TEST(Scatter, GroupsAreToldApart) {
  std::set<std::string> marks;
  for (int group = 0; group < 32; ++group) {
    const GroupMark mark = MarkOf(group);
    marks.insert({static_cast<char>(mark.colour.red), static_cast<char>(mark.colour.green),
                  static_cast<char>(mark.colour.blue), static_cast<char>(mark.marker)});
  }
  EXPECT_EQ(marks.size(), 32u);
  Scatter many = TwoGroups();
  many.groups.resize(300, "a group whose name is far too long to be written beside the points");
  many.points[3].group = 299;
  for (const int height : {240, 720}) {
    many.height = height;
    const auto image = Draw(many);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_TRUE(ToHtml(many).ok());
  }
}

TEST(Scatter, AnyNumbersAreDrawn) {
  constexpr double kLargest = std::numeric_limits<double>::max();
  for (const std::vector<double>& values :
       std::vector<std::vector<double>>{{},
                                        {3},
                                        {3, 3, 3},
                                        {-kLargest, kLargest},
                                        {1e-320, 2e-320},
                                        {std::nan(""), 1, INFINITY, 2}}) {
    Scatter scatter = TwoGroups();
    scatter.points.clear();
    for (const double value : values) scatter.points.push_back({.x = value, .y = -value});
    EXPECT_TRUE(Draw(scatter).ok());
    const auto page = ToHtml(scatter);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_THAT(*page, Not(HasSubstr("nan")));
    EXPECT_THAT(*page, Not(HasSubstr("inf")));
  }
}

TEST(Scatter, RefusesSizesThatDoNotFit) {
  std::vector<Scatter> wrong(5, TwoGroups());
  wrong[0].width = 10;
  wrong[1].height = 1 << 20;
  wrong[2].groups.clear();
  wrong[3].points[1].group = 2;
  wrong[4].points[1].group = -1;
  for (const Scatter& scatter : wrong) {
    EXPECT_TRUE(absl::IsInvalidArgument(Draw(scatter).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(ToHtml(scatter).status()));
  }
}

TEST(ScatterHtml, HasEveryPointWithItsTextAndNothingFromElsewhere) {
  const auto page = ToHtml(TwoGroups());
  ASSERT_TRUE(page.ok()) << page.status();
  for (const char* text : {"<title>states/a\ncode</title>", "<title>states/d\nprose</title>",
                           "code 2</label>", "direction 2", "<h1>A map of states</h1>"}) {
    EXPECT_THAT(*page, HasSubstr(text));
  }
  EXPECT_EQ(CountOf(*page, "</title></path>"), 4);
  for (const char* outside : {"http:", "https:", "//", "<script", "src=", "url(", "@import"}) {
    EXPECT_THAT(*page, Not(HasSubstr(outside))) << outside;
  }
}

TEST(ScatterHtml, TextsStayTexts) {
  const std::string evil = "</title><script>alert('x')</script>\"&\x01\x7f";
  Scatter scatter = TwoGroups();
  scatter.title = scatter.subtitle = scatter.x_axis = scatter.y_axis = evil;
  scatter.groups = {evil, evil};
  for (ScatterPoint& point : scatter.points) point.text = evil + "\n\xc3\xa9";
  const auto page = ToHtml(scatter);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(*page, Not(HasSubstr("<script")));
  EXPECT_THAT(*page, Not(HasSubstr("alert('")));
  EXPECT_THAT(*page, Not(HasSubstr("\x01")));
  const std::string escaped =
      "&lt;/title&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
  // Title and heading, subtitle, two axes, two groups, four points.
  EXPECT_EQ(CountOf(*page, escaped), 2 + 1 + 2 + 2 + 4);
  EXPECT_THAT(*page, HasSubstr("\n\xc3\xa9</title>"));
}

}  // namespace
}  // namespace dreamstate::picture
