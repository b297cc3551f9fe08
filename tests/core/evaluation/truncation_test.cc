// Truncations of states whose parts are known.
#include "core/evaluation/truncation.h"

#include <cmath>
#include <vector>

#include "core/base/draws.h"
#include "core/state/geometry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::evaluation {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::Pointwise;

constexpr state::Shape kShape = {.layers = 3, .width = 16, .heads = 2, .head_size = 8};

state::State RandomState(uint64_t seed = 1) {
  state::State state = state::State::Empty(kShape);
  Draws draws(seed, 1, 0);
  for (float& value : state.wkv) value = static_cast<float>(draws.Uniform() - 0.5);
  for (float& value : state.shift) value = static_cast<float>(draws.Uniform());
  return state;
}

// One row for each way to change a state, of a single head of 4.
state::State OneHead(const std::vector<float>& row) {
  state::State state = state::State::Empty({.layers = 1, .width = 4, .heads = 1, .head_size = 4});
  std::copy(row.begin(), row.end(), state.wkv.begin());
  return state;
}
std::vector<float> FirstRow(const state::State& state) {
  return {state.wkv.begin(), state.wkv.begin() + state.shape.head_size};
}

TEST(Truncation, SingularValuesThatAreKnownAreKept) {
  // Three orthogonal products of strength 5, 3 and 1 in every head, turned differently.
  state::State state = state::State::Empty(kShape), strongest = state;
  const int n = kShape.head_size;
  for (size_t i = 0; i < state.wkv.size(); ++i) {
    const auto cell = static_cast<int>(i) % (n * n);
    const int turn = static_cast<int>(i) / (n * n), value = cell / n, key = cell % n;
    const auto hit = [&](int v, int k) {
      return value == v && key == (k + turn) % n ? 1.0f : 0.0f;
    };
    strongest.wkv[i] = 5 * hit(2, 0);
    state.wkv[i] = strongest.wkv[i] + 3 * hit(0, 4) - hit(7, 3);
  }
  const std::vector<float> directions = KeyDirections(state);
  const state::State one = OfRank(state, directions, 1);
  EXPECT_THAT(one.wkv, Pointwise(FloatNear(1e-6f), strongest.wkv));
  EXPECT_NEAR(RelativeError(one, state), std::sqrt(10.0 / 35), 1e-6);
  EXPECT_NEAR(RelativeError(OfRank(state, directions, 2), state), std::sqrt(1.0 / 35), 1e-6);
  EXPECT_NEAR(RelativeError(OfRank(state, directions, 3), state), 0, 1e-6);
  EXPECT_NEAR(RelativeError(OfRank(state, directions, 0), state), 1, 1e-6);
}

TEST(Truncation, ARankKeepsTheMostThatItCan) {
  const state::State state = RandomState();
  const std::vector<float> directions = KeyDirections(state);
  double before = 1;
  for (int rank = 1; rank < kShape.head_size; ++rank) {
    const double error = RelativeError(OfRank(state, directions, rank), state);
    EXPECT_LT(error, before) << rank;
    before = error;
  }
  EXPECT_NEAR(RelativeError(OfRank(state, directions, kShape.head_size), state), 0, 1e-6);
  // The first direction's energy is the spectral norm's; another state's directions keep less.
  const state::State first = OfRank(state, directions, 1);
  const std::vector<float> others = KeyDirections(RandomState(2));
  EXPECT_GT(RelativeError(OfRank(state, others, 1), state), RelativeError(first, state) + 0.01);
  for (int layer = 0; layer < kShape.layers; ++layer) {
    for (int head = 0; head < kShape.heads; ++head) {
      const auto own = state::GeometryOf(state::HeadOf(state, layer, head), kShape.head_size);
      const auto kept = state::GeometryOf(state::HeadOf(first, layer, head), kShape.head_size);
      EXPECT_NEAR(kept.spectral_norm, own.spectral_norm, 1e-5);
      EXPECT_NEAR(kept.stable_rank, 1, 1e-5);
    }
  }
}

TEST(Truncation, LayersAreKeptOrLeftOutWhole) {
  const state::State state = RandomState();
  for (int layer = 0; layer < kShape.layers; ++layer) {
    const state::State only = OnlyLayer(state, layer), without = WithoutLayer(state, layer);
    for (int other = 0; other < kShape.layers; ++other) {
      for (int head = 0; head < kShape.heads; ++head) {
        const auto own = state::HeadOf(state, other, head);
        const auto kept = state::HeadOf(other == layer ? only : without, other, head);
        EXPECT_TRUE(std::equal(own.begin(), own.end(), kept.begin()));
        EXPECT_THAT(state::HeadOf(other == layer ? without : only, other, head), Each(0.0f));
      }
    }
    const double kept = RelativeError(without, state), left = RelativeError(only, state);
    EXPECT_NEAR(kept * kept + left * left, 1, 1e-9);
  }
}

TEST(Truncation, ScalesAreFactors) {
  const state::State state = RandomState();
  EXPECT_NEAR(RelativeError(Scaled(state, 0.5f), state), 0.5, 1e-6);
  EXPECT_NEAR(RelativeError(Scaled(state, 2), state), 1, 1e-6);
  EXPECT_EQ(Scaled(state, 1), state);
}

TEST(Truncation, RowsAreRoundedByTheirOwnLargestValue) {
  const state::State state = OneHead({-7, 3.4f, 0.4f, 5.6f});
  EXPECT_THAT(FirstRow(FourBitRows(state)),
              ElementsAre(FloatEq(-7), FloatEq(3), FloatEq(0), FloatEq(6)));
  EXPECT_THAT(FirstRow(TernaryRows(state)),
              ElementsAre(FloatEq(-7), FloatEq(0), FloatEq(0), FloatEq(7)));
  // Mean 4.1, threshold 2.87, mean of the three above it 16 / 3.
  const float mean = 16.0f / 3;
  EXPECT_THAT(FirstRow(TernaryRowsByMean(state)),
              ElementsAre(FloatEq(-mean), FloatEq(mean), FloatEq(0), FloatEq(mean)));
  // The other rows, which are zero, stay so.
  for (const state::State& made :
       {FourBitRows(state), TernaryRows(state), TernaryRowsByMean(state)}) {
    EXPECT_THAT(std::vector<float>(made.wkv.begin() + 4, made.wkv.end()), Each(0.0f));
  }
  // A large row takes no digits from a small one.
  state::State rows = OneHead({1, -1, 1, 1});
  rows.wkv[4] = 1000;
  EXPECT_THAT(FirstRow(TernaryRows(rows)), ElementsAre(1, -1, 1, 1));
}

TEST(Truncation, FewerBitsErrMore) {
  const state::State state = RandomState();
  const double four = RelativeError(FourBitRows(state), state);
  const double by_mean = RelativeError(TernaryRowsByMean(state), state);
  const double ternary = RelativeError(TernaryRows(state), state);
  EXPECT_LT(four, 0.08);
  EXPECT_GT(by_mean, 3 * four);
  EXPECT_GT(ternary, 3 * four);
}

TEST(Truncation, ShiftVectorsStay) {
  const state::State state = RandomState();
  for (const state::State& made :
       {OfRank(state, KeyDirections(state), 2), OnlyLayer(state, 1), WithoutLayer(state, 1),
        Scaled(state, 2), FourBitRows(state), TernaryRows(state), TernaryRowsByMean(state)}) {
    EXPECT_EQ(made.shift, state.shift);
    EXPECT_EQ(made.shape, state.shape);
  }
}

TEST(Truncation, EmptyStatesStayEmpty) {
  const state::State empty = state::State::Empty(kShape);
  EXPECT_EQ(OfRank(empty, KeyDirections(empty), 3), empty);
  EXPECT_EQ(FourBitRows(empty), empty);
  EXPECT_EQ(TernaryRowsByMean(empty), empty);
  EXPECT_EQ(RelativeError(empty, empty), 0);
  EXPECT_EQ(RelativeError(RandomState(), empty), 1);
}

}  // namespace
}  // namespace dreamstate::evaluation
