// The metrics must tell real states from what is none, and find copies.
#include "core/evaluation/fidelity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/base/draws.h"

namespace dreamstate::evaluation {
namespace {

using ::testing::HasSubstr;

constexpr state::Shape kShape = {.layers = 1, .width = 16, .heads = 2, .head_size = 8};
constexpr int kLabels = 3;

double Normal(Draws& draws) {
  return std::sqrt(-2 * std::log(1 - draws.Uniform())) *
         std::cos(2 * std::numbers::pi * draws.Uniform());
}

// States of labels: a place of the label, two directions that all share, some noise. `spread` is of
// the directions' weights.
struct Made {
  std::vector<state::State> states;
  std::vector<LabelledState> list;
};
Made MakeStates(int of_each, uint64_t seed, double spread = 1) {
  Draws fixed(1, 1, 0), draws(seed, 2, 0);
  std::vector<std::vector<double>> directions(2 + kLabels, std::vector<double>(128));
  for (auto& direction : directions) {
    for (double& value : direction) value = Normal(fixed);
  }
  Made made;
  for (int label = 0; label < kLabels; ++label) {
    for (int i = 0; i < of_each; ++i) {
      state::State state = state::State::Empty(kShape);
      const double a = spread * Normal(draws), b = spread * Normal(draws);
      for (size_t k = 0; k < 128; ++k) {
        state.wkv[k] = static_cast<float>(directions[2 + static_cast<size_t>(label)][k] +
                                          a * directions[0][k] + b * directions[1][k] +
                                          0.2 * spread * Normal(draws));
      }
      made.states.push_back(std::move(state));
    }
  }
  for (size_t i = 0; i < made.states.size(); ++i) {
    made.list.push_back({&made.states[i], static_cast<int32_t>(i) / of_each});
  }
  return made;
}

class FidelityTest : public ::testing::Test {
 protected:
  FidelityTest()
      : training_(MakeStates(60, 1)),
        held_out_(MakeStates(30, 2)),
        meter_(FidelityMeter::Make(training_.list, held_out_.list, {.components = 16}).value()) {}

  Made training_, held_out_;
  std::unique_ptr<FidelityMeter> meter_;
};

TEST_F(FidelityTest, RealStatesPass) {
  const FidelityRow real = meter_->Real();
  EXPECT_DOUBLE_EQ(real.frechet, 1);
  EXPECT_DOUBLE_EQ(real.diversity, 1);
  EXPECT_DOUBLE_EQ(real.memorisation, 0.5);
  EXPECT_NEAR(real.classifier, 0.5, 0.15);
  const Made others = MakeStates(30, 3);
  const FidelityRow row = meter_->Measure("others", "others", others.list).value();
  EXPECT_LT(row.frechet, 2);
  EXPECT_NEAR(row.classifier, 0.5, 0.15);
  EXPECT_NEAR(row.diversity, 1, 0.15);
  EXPECT_NEAR(row.memorisation, 0.5, 0.1);
  EXPECT_GT(row.purity, 0.9);
  EXPECT_GT(meter_->variance_share(), 0.9);
}

TEST_F(FidelityTest, TheGaugeDoesNotMatter) {
  Made moved = MakeStates(30, 3);
  const FidelityRow before = meter_->Measure("a", "a", moved.list).value();
  for (state::State& state : moved.states) {
    for (size_t k = 0; k < 128; ++k) state.wkv[k] += static_cast<float>(k % 8) * 3;
  }
  const FidelityRow after = meter_->Measure("b", "b", moved.list).value();
  EXPECT_NEAR(after.frechet, before.frechet, 1e-3);
}

TEST_F(FidelityTest, WhatIsNotRealFailsByItsOwnMetric) {
  // All much alike.
  const Made narrow = MakeStates(30, 4, 0.3);
  const FidelityRow alike = meter_->Measure("narrow", "narrow", narrow.list).value();
  EXPECT_LT(alike.diversity, 0.5);
  EXPECT_GT(alike.frechet, 2);
  // Entries shuffled.
  Made shuffled = MakeStates(30, 5);
  Draws draws(1, 9, 0);
  for (state::State& state : shuffled.states) draws.Shuffle(std::span(state.wkv));
  const FidelityRow row = meter_->Measure("shuffled", "shuffled", shuffled.list).value();
  EXPECT_GT(row.frechet, 5);
  EXPECT_GT(row.classifier, 0.8);
  EXPECT_LT(row.purity, 0.6);
  // Copies of training states.
  const std::vector<LabelledState> copies(training_.list.begin(), training_.list.begin() + 90);
  const FidelityRow copied = meter_->Measure("copies", "copies", copies).value();
  EXPECT_GT(copied.memorisation, 0.99);
  EXPECT_GT(copied.copied, 0.99);
}

TEST_F(FidelityTest, TooFewOrOtherStatesAreRefused) {
  const std::vector<LabelledState> few(training_.list.begin(), training_.list.begin() + 5);
  EXPECT_THAT(std::string(meter_->Measure("few", "few", few).status().message()),
              HasSubstr("at least 20 states, found 5"));
  state::State other = state::State::Empty({.layers = 1, .width = 8, .heads = 1, .head_size = 8});
  std::vector<LabelledState> mixed = training_.list;
  mixed[7].state = &other;
  EXPECT_THAT(std::string(meter_->Measure("mixed", "mixed", mixed).status().message()),
              HasSubstr("state 7 is of another shape"));
  EXPECT_FALSE(FidelityMeter::Make({}, {}, {}).ok());
}

}  // namespace
}  // namespace dreamstate::evaluation
