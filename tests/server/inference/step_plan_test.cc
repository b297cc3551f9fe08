#include "server/inference/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;

constexpr WorkOffer kDecode = {WorkKind::kDecode, 1};
WorkOffer Prefill(int64_t tokens) { return {WorkKind::kPrefill, tokens}; }

std::vector<int> Plan(const std::vector<WorkOffer>& offers, StepBudget budget, uint64_t turn = 0) {
  std::vector<int> counts(offers.size(), -1);
  PlanStep(offers, budget, turn, counts);
  return counts;
}

TEST(StepPlan, TableOfDivisions) {
  EXPECT_THAT(Plan({}, {8, 8}), ElementsAre());
  EXPECT_THAT(Plan({kDecode, kDecode}, {8, 8}), ElementsAre(1, 1));
  // Decode first, prefill takes the rest.
  EXPECT_THAT(Plan({Prefill(100), kDecode}, {8, 8}), ElementsAre(7, 1));
  // Prefills share evenly; what a short one leaves goes to the others, before or behind it.
  EXPECT_THAT(Plan({Prefill(100), Prefill(100)}, {8, 8}), ElementsAre(4, 4));
  EXPECT_THAT(Plan({Prefill(1), Prefill(100)}, {8, 8}), ElementsAre(1, 7));
  EXPECT_THAT(Plan({Prefill(100), Prefill(1)}, {8, 8}), ElementsAre(7, 1));
  // More work than budget: in turn.
  EXPECT_THAT(Plan({kDecode, kDecode, kDecode}, {2, 8}, 0), ElementsAre(1, 1, 0));
  EXPECT_THAT(Plan({kDecode, kDecode, kDecode}, {2, 8}, 1), ElementsAre(0, 1, 1));
  EXPECT_THAT(Plan({Prefill(9), Prefill(9), Prefill(9)}, {2, 8}, 2), ElementsAre(1, 0, 1));
  // More sequences than a forward takes.
  EXPECT_THAT(Plan({Prefill(9), Prefill(9), kDecode}, {8, 2}), ElementsAre(7, 0, 1));
}

TEST(StepPlan, KeepsToTheBudgetAndWastesNothing) {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::vector<WorkOffer> offers(random() % 12);
    int64_t wanted = 0;
    for (WorkOffer& offer : offers) {
      offer = random() % 2 == 0 ? kDecode : Prefill(1 + random() % 40);
      wanted += offer.tokens;
    }
    const StepBudget budget = {1 + static_cast<int>(random() % 50),
                               1 + static_cast<int>(random() % 12)};
    const std::vector<int> counts = Plan(offers, budget, random());
    int sequences = 0;
    for (size_t i = 0; i < offers.size(); ++i) {
      ASSERT_GE(counts[i], 0);
      ASSERT_LE(counts[i], offers[i].tokens);
      sequences += counts[i] > 0 ? 1 : 0;
    }
    const int64_t planned = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    ASSERT_LE(planned, budget.tokens);
    ASSERT_LE(sequences, budget.sequences);
    if (sequences < budget.sequences) {
      ASSERT_EQ(planned, std::min<int64_t>(budget.tokens, wanted)) << "round " << round;
    }
  }
}

TEST(StepPlan, NobodyWaitsForEver) {
  const std::vector<WorkOffer> offers = {kDecode, Prefill(9), kDecode, Prefill(9), Prefill(9)};
  std::vector<int> served(offers.size(), 0);
  for (uint64_t turn = 0; turn < 20; ++turn) {
    const std::vector<int> counts = Plan(offers, {3, 3}, turn);
    for (size_t i = 0; i < counts.size(); ++i) served[i] += counts[i] > 0 ? 1 : 0;
  }
  for (const int times : served) EXPECT_GT(times, 0);
}

}  // namespace
}  // namespace dreamstate::server
