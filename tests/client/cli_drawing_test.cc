// Drawings of the program that need no server.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/heat_map.h"
#include "client/cli/lineage_graph.h"
#include "client/cli/state_plot.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

HeadMap MapOf(int layers, int heads) {
  HeadMap map;
  map.title = "RMS of every matrix";
  map.layers = layers;
  map.heads = heads;
  for (int i = 0; i < layers * heads; ++i) map.values.push_back(static_cast<float>(i));
  return map;
}

// What a terminal shows of a line: code points that are no escape sequences.
std::string Shown(const std::string& line) {
  std::string shown;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\033') {
      i = line.find('m', i);
    } else if ((static_cast<unsigned char>(line[i]) & 0xc0) != 0x80) {
      shown += static_cast<unsigned char>(line[i]) < 0x80 ? line[i] : '#';
    }
  }
  return shown;
}

TEST(HeadMap, FitsEightyColumnsAtEverySize) {
  for (const int layers : {1, 12, 61}) {
    for (const int heads : {1, 12, 13, 16, 32, 37, 38, 40, 64, 75, 76, 200}) {
      for (const bool colour : {false, true}) {
        for (const std::string& line : DrawLines(MapOf(layers, heads), colour, true))
          EXPECT_LE(Shown(line).size(), 80u) << layers << " x " << heads << ": " << Shown(line);
      }
    }
  }
}

TEST(HeadMap, LargeModelsTakeHalfALineALayer) {
  const std::vector<std::string> lines = DrawLines(MapOf(61, 64), true, false);
  EXPECT_EQ(lines.size(), 1u + 1 + 31 + 1);
  EXPECT_EQ(Shown(lines[2]), "   0 " + std::string(64, '#'));
  EXPECT_EQ(Shown(lines[32]), "  60 " + std::string(64, '#'));
}

TEST(HeadMap, DigitsRankValuesWhereThereAreNoColours) {
  HeadMap map = MapOf(1, 20);
  map.values[3] = std::nanf("");
  const std::vector<std::string> lines = DrawLines(map, false, false);
  EXPECT_THAT(lines,
              ElementsAre("RMS of every matrix: layers down, heads across",
                          "     0   2   4   6   8   10  12  14  16  18",
                          "   0 0 0 1 - 2 2 3 3 4 4 5 5 6 6 7 7 8 8 9 9", "     0 = 0 to 9 = 19"));
}

TEST(HeadMap, NumbersAreShort) {
  HeadMap map = MapOf(1, 8);
  map.values = {0, 0.0000123f, 0.12345f, 9.9996f, 123.456f, 1234.5f, 1234567.f, std::nanf("")};
  EXPECT_EQ(DrawLines(map, false, false)[2],
            "   0      0 1e-05 0.123 10.00 123.5  1234 1e+06     -");
}

TEST(HeadMap, OneValueAlone) {
  EXPECT_EQ(DrawLines(MapOf(1, 1), false, false)[2], "   0      0");
  EXPECT_EQ(Shown(DrawLines(MapOf(1, 1), true, true)[2]), "   0      0");
}

TEST(HeadMap, SizesThatDoNotFitAreRefused) {
  EXPECT_TRUE(CheckSizes(2, 3, 6).ok());
  for (const auto& [layers, heads, values] : std::vector<std::tuple<int, int, int>>{
           {2, 3, 5}, {0, 0, 0}, {-1, -6, 6}, {1 << 20, 1 << 20, 0}, {5000, 1, 5000}}) {
    EXPECT_TRUE(absl::IsInternal(CheckSizes(layers, heads, values))) << layers;
  }
}

picture::Scatter PointsOf(int groups, int points) {
  picture::Scatter scatter;
  for (int i = 0; i < groups; ++i) scatter.groups.push_back(absl::StrCat("group ", i));
  for (int i = 0; i < points; ++i)
    scatter.points.push_back({std::cos(i) * i, std::sin(i) * i, i % groups, ""});
  return scatter;
}

TEST(StatePlot, HasOneSizeWhateverItHolds) {
  for (const int points : {0, 1, 3, 2000}) {
    for (const bool colour : {false, true}) {
      const std::vector<std::string> lines = PlotLines(PointsOf(60, points), colour, true);
      EXPECT_EQ(lines.size(), 24u);
      for (const std::string& line : lines) EXPECT_EQ(Shown(line).size(), 80u) << Shown(line);
    }
  }
  picture::Scatter odd = PointsOf(1, 3);
  odd.points[1].x = std::nan("");
  odd.points[2] = {1e308, -1e308, 0, ""};
  EXPECT_EQ(PlotLines(odd, false, false).size(), 24u);
}

TEST(StatePlot, ACellShowsTheGroupThatHasMostOfIt) {
  picture::Scatter scatter = PointsOf(3, 0);
  for (const int group : {0, 1, 2, 1, 2, 2}) scatter.points.push_back({5, 5, group, ""});
  const std::string plot = absl::StrJoin(PlotLines(scatter, false, false), "");
  EXPECT_EQ(plot.find_first_of("ab"), std::string::npos);
  EXPECT_EQ(std::count(plot.begin(), plot.end(), 'c'), 1);
}

TEST(StatePlot, TheLegendNamesEveryGroup) {
  EXPECT_THAT(PlotLegend(PointsOf(2, 3)), ElementsAre("a group 0 2   b group 1 1"));
  const std::string all = absl::StrJoin(PlotLegend(PointsOf(60, 60)), "\n");
  for (const char* entry : {"z group 25 1", "A group 26 1", "Z group 51 1", "# group 59 1"})
    EXPECT_THAT(all, HasSubstr(entry));
  for (const std::string& line : PlotLegend(PointsOf(60, 60))) EXPECT_LE(line.size(), 80u);
}

// "child<parent,parent" each; the first is the one asked for.
v1::GetLineageResponse LineageOf(const std::vector<std::string>& states) {
  v1::GetLineageResponse lineage;
  int64_t seconds = 1700000000;
  for (const std::string& text : states) {
    v1::State* state = lineage.add_states();
    const size_t mark = text.find('<');
    state->set_name(text.substr(0, mark));
    state->mutable_lineage()->set_operation("op");
    state->mutable_created()->set_seconds(seconds++);
    std::string parent;
    for (const char c : mark == std::string::npos ? "" : text.substr(mark + 1) + ",") {
      if (c != ',') {
        parent += c;
      } else if (!parent.empty()) {
        state->mutable_lineage()->add_parents(parent);
        parent.clear();
      }
    }
  }
  return lineage;
}

// The tree without the facts of each state.
std::string Tree(const v1::GetLineageResponse& lineage) {
  std::string tree;
  for (const std::string& line : LineageTree(lineage))
    absl::StrAppend(&tree, line.substr(0, line.find("  ", line.find_first_not_of("│├└─ ") + 1)),
                    "\n");
  return tree;
}

TEST(LineageTree, AChainStaysInItsColumnAndBranchesStepAside) {
  EXPECT_EQ(Tree(LineageOf({"c<b", "b<a", "a", "d<c", "e<c", "f<e"})),
            "o a\n"
            "o b\n"
            "* c\n"
            "├─o d\n"
            "└─o e\n"
            "  o f\n");
}

TEST(LineageTree, AStateOfTwoParentsIsDrawnBelowEach) {
  const v1::GetLineageResponse lineage = LineageOf({"c<a,b", "a", "b", "d<c"});
  EXPECT_EQ(Tree(lineage), "o a\n* c\no d\no b\n* c\n");
  EXPECT_THAT(LineageTree(lineage).back(), HasSubstr("drawn above already"));
}

TEST(LineageTree, WhatIsGoneIsMarked) {
  v1::GetLineageResponse lineage = LineageOf({"b<a", "a<gone"});
  lineage.add_unknown("gone");
  lineage.mutable_states(1)->set_deleted(true);
  EXPECT_EQ(Tree(lineage), "x gone\nx a\n* b\n");
  EXPECT_THAT(LineageTree(lineage)[0], HasSubstr("nothing is known of it any more"));
  EXPECT_THAT(LineageTree(lineage)[1], HasSubstr(", deleted"));
}

TEST(LineageTree, NoAnswerOfAServerHangsIt) {
  EXPECT_EQ(LineageTree(LineageOf({"a<b", "b<a"})).size(), 3u) << "a cycle";
  EXPECT_EQ(LineageTree(LineageOf({"a<a"})).size(), 2u);
  EXPECT_EQ(LineageTree(LineageOf({"a<x,x", "x"})).size(), 2u) << "one parent twice";
  EXPECT_TRUE(LineageTree({}).empty());
  std::vector<std::string> chain = {"s0"};
  for (int i = 1; i < 1000; ++i) chain.push_back(absl::StrCat("s", i, "<s", i - 1));
  EXPECT_EQ(LineageTree(LineageOf(chain)).size(), 1000u);
}

TEST(LineageDot, NamesAreQuoted) {
  v1::GetLineageResponse lineage = LineageOf({"b<a\"\\", "a\"\\"});
  lineage.mutable_states(0)->add_labels("two\nlines");
  const std::string dot = absl::StrJoin(LineageDot(lineage), "\n");
  EXPECT_THAT(dot, HasSubstr("\"a\\\"\\\\\" -> \"b\";"));
  EXPECT_THAT(dot, HasSubstr("two lines"));
}

}  // namespace
}  // namespace dreamstate::cli
