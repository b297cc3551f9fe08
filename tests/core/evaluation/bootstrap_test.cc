#include "core/evaluation/bootstrap.h"

#include <cmath>
#include <vector>

#include "core/base/draws.h"
#include "gtest/gtest.h"

namespace dreamstate::evaluation {
namespace {

// Sum of uniforms minus its mean: variance 1, mean `mean`.
Group NormalGroup(int documents, double mean, uint32_t stream) {
  Draws draws(1, 77, stream);
  Group group;
  for (int i = 0; i < documents; ++i) {
    double value = -6;
    for (int k = 0; k < 12; ++k) value += draws.Below(1u << 30) / static_cast<double>(1u << 30);
    group.push_back({mean + value, 1});
  }
  return group;
}

TEST(Bootstrap, MeanWeighsDocumentsByTheirBytesAndGroupsEqually) {
  const std::vector<Group> groups = {{{10, 5}, {2, 1}, {0, 6}}, {{3, 1}}, {}, {{9, 0}}};
  EXPECT_DOUBLE_EQ(MeanOf(groups[0]), 1.0);
  EXPECT_DOUBLE_EQ(MeanOf(groups), 2.0);
  EXPECT_EQ(MeanOf(Group{}), 0);
}

TEST(Bootstrap, IntervalHasTheWidthOfTheNormalOne) {
  constexpr int kDocuments = 400;
  const Group group = NormalGroup(kDocuments, 0.3, 0);
  const Interval interval = IntervalOf(group, {});
  const double expected = 2 * 1.96 / std::sqrt(kDocuments);
  EXPECT_NEAR(interval.high - interval.low, expected, 0.15 * expected);
  EXPECT_LT(interval.low, MeanOf(group));
  EXPECT_GT(interval.high, MeanOf(group));
}

TEST(Bootstrap, IntervalsHoldTheTruthAboutAsOftenAsTheySay) {
  constexpr int kRepetitions = 300;
  int held = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const Interval interval = IntervalOf(NormalGroup(60, 0.5, i), {.resamples = 300});
    held += interval.low <= 0.5 && 0.5 <= interval.high;
  }
  EXPECT_GE(held, kRepetitions * 0.90);
  EXPECT_LE(held, kRepetitions * 0.985);
}

TEST(Bootstrap, ResamplesInsideOfGroups) {
  // Groups that differ by far, documents that do not: another draw of documents changes nothing.
  const std::vector<Group> groups = {{{1, 1}, {1, 1}, {1, 1}}, {{9, 1}, {9, 1}}};
  const Interval interval = IntervalOf(groups, {});
  EXPECT_DOUBLE_EQ(interval.low, 5);
  EXPECT_DOUBLE_EQ(interval.high, 5);
  // Pooled, the same documents are uncertain.
  const Interval pooled = IntervalOf({{1, 1}, {1, 1}, {1, 1}, {9, 1}, {9, 1}}, {});
  EXPECT_GT(pooled.high - pooled.low, 4);
}

TEST(Bootstrap, WholeDocumentsAreResampled) {
  // Two documents of very different length and loss: bytes taken as independent samples would give
  // an interval of a tenth of this.
  const Interval interval = IntervalOf({{1000, 1000}, {4000, 1000}}, {});
  EXPECT_DOUBLE_EQ(interval.low, 1);
  EXPECT_DOUBLE_EQ(interval.high, 4);
}

TEST(Bootstrap, SeedDecides) {
  const Group group = NormalGroup(20, 0, 5);
  const Interval one = IntervalOf(group, {.seed = 7}), again = IntervalOf(group, {.seed = 7});
  const Interval other = IntervalOf(group, {.seed = 8});
  EXPECT_EQ(one.low, again.low);
  EXPECT_EQ(one.high, again.high);
  EXPECT_NE(one.low, other.low);
}

TEST(Bootstrap, HigherConfidenceIsWider) {
  const Group group = NormalGroup(50, 0, 9);
  const Interval narrow = IntervalOf(group, {.confidence = 0.5});
  const Interval wide = IntervalOf(group, {.confidence = 0.99});
  EXPECT_GT(wide.high - wide.low, 2 * (narrow.high - narrow.low));
}

}  // namespace
}  // namespace dreamstate::evaluation
