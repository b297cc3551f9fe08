// States whose numbers are known, and labels that mean nothing.
#include "core/evaluation/state_statistics.h"

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/draws.h"
#include "core/evaluation/state_statistics_picture.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::evaluation {
namespace {

using ::testing::HasSubstr;

constexpr int kSize = 8;

// Sums of uniform numbers: normal enough.
float Normal(Draws& draws) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += draws.Uniform();
  return static_cast<float>(sum);
}

// `count` states of one layer and `heads` heads; `entry(state, head, value, key)` fills them. Label
// of a state: its number modulo `labels`.
ChosenStates Make(int count, int heads, int labels,
                  const std::function<float(int, int, int, int)>& entry) {
  ChosenStates states;
  states.shape = {.layers = 1, .width = heads * kSize, .heads = heads, .head_size = kSize};
  for (int i = 0; i < count; ++i) {
    states.labels.push_back(i % labels);
    for (int head = 0; head < heads; ++head) {
      for (int value = 0; value < kSize; ++value) {
        for (int key = 0; key < kSize; ++key) states.wkv.push_back(entry(i, head, value, key));
      }
    }
  }
  return states;
}

HeadStatistics OnlyHead(const std::function<float(int, int, int, int)>& entry, int count = 20) {
  return StatisticsOf(Make(count, 1, 2, entry)).value().heads.front();
}

TEST(StateStatistics, ARankOneHeadIsSeenAsOne) {
  // v k^T with |v|^2 = 8 * 4, |k|^2 = 8: values of +-2, keys of +-1.
  const HeadStatistics head = OnlyHead([](int, int, int value, int key) {
    return (value % 2 == 0 ? 2.0f : -2.0f) * (key < 3 ? 1.0f : -1.0f);
  });
  EXPECT_NEAR(head.rms, 2, 1e-9);
  EXPECT_NEAR(head.spectral_norm, 16, 1e-6);
  EXPECT_NEAR(head.stable_rank, 1, 1e-9);
  EXPECT_NEAR(head.first_energy, 1, 1e-9);
  EXPECT_NEAR(head.norm_variation, 0, 1e-9);
  EXPECT_NEAR(head.gauge_energy, 0, 1e-9);  // its columns have no mean
  EXPECT_NEAR(head.mean_energy, 1, 1e-9);   // all states are the same
}

TEST(StateStatistics, AHeadWithoutADirectionHasFullRank) {
  const HeadStatistics head =
      OnlyHead([](int, int, int value, int key) { return value == key ? 3.0f : 0.0f; });
  EXPECT_NEAR(head.spectral_norm, 3, 1e-6);
  EXPECT_NEAR(head.stable_rank, kSize, 1e-6);
  EXPECT_NEAR(head.first_energy, 1.0 / kSize, 1e-6);
}

TEST(StateStatistics, NormsVaryAsTheyDo) {
  // Half of the states are three times as large: mean 2, deviation 1.
  const HeadStatistics head =
      OnlyHead([](int i, int, int value, int key) { return value == key ? 1.0f + i % 2 * 2 : 0; });
  EXPECT_NEAR(head.norm_variation, 0.5, 1e-6);
  EXPECT_NEAR(head.rms, std::sqrt((1.0 + 9.0) / 2 / kSize), 1e-6);
}

TEST(StateStatistics, TheGaugeIsTheMeanOfEachColumn) {
  const auto gauge = [](int, int, int, int key) { return key + 1.0f; };
  EXPECT_NEAR(OnlyHead(gauge).gauge_energy, 1, 1e-9);
  // Keys take no part in it.
  const HeadStatistics turned = OnlyHead([](int, int, int value, int) { return value - 3.5f; });
  EXPECT_NEAR(turned.gauge_energy, 0, 1e-9);
  // As much of the one as of the other.
  const HeadStatistics half =
      OnlyHead([](int, int, int value, int) { return value % 2 == 0 ? 2.0f : 0.0f; });
  EXPECT_NEAR(half.gauge_energy, 0.5, 1e-9);
}

TEST(StateStatistics, TheMeanOfOppositeStatesIsNothing) {
  const auto sign = [](int i) { return i % 2 == 0 ? 1.0f : -1.0f; };
  const HeadStatistics opposite =
      OnlyHead([&](int i, int, int value, int key) { return value == key ? sign(i) : 0; });
  EXPECT_NEAR(opposite.mean_energy, 0, 1e-9);
  // 3 + 1 and 3 - 1: the mean has 9 of 10 parts. The gauge, though large, is left out.
  const HeadStatistics most = OnlyHead([&](int i, int, int value, int) {
    return 100 + (value % 2 == 0 ? 1.0f : -1.0f) * (3 + sign(i));
  });
  EXPECT_NEAR(most.mean_energy, 0.9, 1e-6);
}

TEST(StateStatistics, KurtosisIsKnown) {
  Draws draws(1, 1, 0);
  const HeadStatistics signs =
      OnlyHead([](int, int, int value, int key) { return (value + key) % 2 == 0 ? 1.0f : -1.0f; });
  EXPECT_NEAR(signs.kurtosis, 1, 1e-9);
  const HeadStatistics even =
      OnlyHead([&](int, int, int, int) { return static_cast<float>(draws.Uniform()); }, 200);
  EXPECT_NEAR(even.kurtosis, 1.8, 0.05);
  const HeadStatistics normal = OnlyHead([&](int, int, int, int) { return Normal(draws); }, 200);
  EXPECT_NEAR(normal.kurtosis, 2.9, 0.1);
  // One of 64 entries: (1 - 3 p q) / p q.
  const double pq = 1.0 / 64 * 63 / 64;
  const HeadStatistics rare =
      OnlyHead([](int, int, int value, int key) { return value == 2 && key == 5 ? 7.0f : 0.0f; });
  EXPECT_NEAR(rare.kurtosis, (1 - 3 * pq) / pq, 1e-6);
}

// Head 0 shows the label, head 1 is noise, head 2 is zero.
ChosenStates ThreeHeads(int labels) {
  Draws draws(3, 1, 0);
  return Make(150, 3, labels, [&](int i, int head, int value, int key) {
    const float noise = Normal(draws);
    if (head == 2) return 0.0f;
    return head == 1 ? noise : noise + (value == i % labels && key == 0 ? 30.0f : 0.0f);
  });
}

TEST(StateStatistics, PurityIsThatOfTheHeadsThatKnowTheLabel) {
  const StateStatistics statistics = StatisticsOf(ThreeHeads(3)).value();
  EXPECT_EQ(statistics.labels, 3);
  EXPECT_EQ(statistics.neighbours, 10);
  EXPECT_NEAR(statistics.chance, 49.0 / 149, 1e-9);
  EXPECT_GT(statistics.At(0, 0).purity, 0.99);
  EXPECT_NEAR(statistics.At(0, 1).purity, statistics.chance, 0.06);
  // All as near as all others, in whatever order they come.
  EXPECT_NEAR(statistics.At(0, 2).purity, statistics.chance, 1e-6);
  EXPECT_GT(statistics.purity, statistics.chance + 0.2);
}

TEST(StateStatistics, LabelsThatMeanNothingHavePurityByChance) {
  ChosenStates states = ThreeHeads(3);
  Draws draws(5, 1, 0);
  draws.Shuffle(std::span<int32_t>(states.labels));
  const StateStatistics statistics = StatisticsOf(states).value();
  for (int head = 0; head < 3; ++head) {
    EXPECT_NEAR(statistics.At(0, head).purity, statistics.chance, 0.06) << head;
  }
  EXPECT_NEAR(statistics.purity, statistics.chance, 0.06);
}

TEST(StateStatistics, TheGaugeIsNoNeighbour) {
  // Labels that only the gauge shows are not seen, for no output depends on it.
  Draws draws(6, 1, 0);
  const StateStatistics statistics = StatisticsOf(Make(150, 1, 3, [&](int i, int, int, int key) {
                                       return Normal(draws) + (key == i % 3 ? 30.0f : 0.0f);
                                     })).value();
  EXPECT_NEAR(statistics.heads.front().purity, statistics.chance, 0.06);
}

TEST(StateStatistics, EmptyHeadsHaveNumbers) {
  const HeadStatistics head = OnlyHead([](int, int, int, int) { return 0.0f; });
  for (const double value :
       {head.rms, head.norm_variation, head.spectral_norm, head.stable_rank, head.first_energy,
        head.gauge_energy, head.mean_energy, head.kurtosis}) {
    EXPECT_EQ(value, 0);
  }
}

TEST(StateStatistics, OneStateIsTooFew) {
  const auto one = StatisticsOf(Make(1, 1, 1, [](int, int, int, int) { return 1.0f; }));
  EXPECT_THAT(std::string(one.status().message()), HasSubstr("expected at least 2, found 1"));
}

TEST(StateStatistics, TablesAndPicturesShowEveryHead) {
  const StateStatistics statistics = StatisticsOf(ThreeHeads(3)).value();
  const StateChoice choice = {.position = 77};
  const std::string text = StateStatisticsTable(statistics, choice).ToText();
  EXPECT_THAT(text, HasSubstr("at token 77, 150 valid documents of 3 domains"));
  EXPECT_THAT(text, HasSubstr("layer 0 head 2"));
  const auto json = StateStatisticsJson(statistics, choice);
  ASSERT_EQ(json["heads"].size(), 3u);
  EXPECT_EQ(json["heads"][1]["stable_rank"], statistics.At(0, 1).stable_rank);
  EXPECT_EQ(json["heads"][0]["purity"], statistics.At(0, 0).purity);
  const auto images = DrawStateStatistics(statistics, choice);
  ASSERT_TRUE(images.ok()) << images.status();
  std::vector<std::string> names;
  for (const NamedImage& image : *images) names.push_back(image.name);
  EXPECT_THAT(names, ::testing::ElementsAre("rms", "spectral_norm", "stable_rank", "purity"));
}

}  // namespace
}  // namespace dreamstate::evaluation
