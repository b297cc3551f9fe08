#include "core/evaluation/table.h"

#include "gtest/gtest.h"

namespace dreamstate::evaluation {
namespace {

Table SmallTable() {
  return {.title = "Bits",
          .columns = {"state", "saved", "helped"},
          .rows = {{"served"}, {"own", "+0.1466", "98 %"}, {"class mean", "+0.0323", "90 %"}},
          .notes = {"That is all."}};
}

TEST(Table, AlignsColumns) {
  EXPECT_EQ(SmallTable().ToText(),
            "Bits\n"
            "state         saved  helped\n"
            "- served\n"
            "own         +0.1466    98 %\n"
            "class mean  +0.0323    90 %\n"
            "That is all.\n");
}

TEST(Table, Markdown) {
  EXPECT_EQ(SmallTable().ToMarkdown(),
            "Bits\n\n"
            "| state | saved | helped |\n"
            "|---|---:|---:|\n"
            "| *served* |  |  |\n"
            "| own | +0.1466 | 98 % |\n"
            "| class mean | +0.0323 | 90 % |\n"
            "\nThat is all.\n");
}

TEST(Table, ShowsNumbers) {
  EXPECT_EQ(ShowBits(1.5404), "1.540");
  EXPECT_EQ(ShowSigned(0.03234), "+0.0323");
  EXPECT_EQ(ShowSigned(-0.0108), "-0.0108");
  EXPECT_EQ(ShowInterval({-0.01, 0.02}, ShowSigned), "[-0.0100, +0.0200]");
  EXPECT_EQ(ShowShare(0.876), "88 %");
}

}  // namespace
}  // namespace dreamstate::evaluation
