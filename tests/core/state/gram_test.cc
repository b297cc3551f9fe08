#include "core/state/gram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/core/state/state_fixtures.h"

namespace dreamstate::state {
namespace {

using Vectors = std::vector<std::vector<float>>;

Vectors Random(int count, size_t elements, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Vectors vectors(static_cast<size_t>(count), std::vector<float>(elements));
  for (std::vector<float>& vector : vectors) {
    for (float& value : vector) value = normal(random);
  }
  return vectors;
}

// Reads `vectors` and counts how often each is read.
VectorSource SourceOf(const Vectors& vectors, std::vector<int>* reads) {
  reads->assign(vectors.size(), 0);
  return {static_cast<int>(vectors.size()), vectors[0].size(),
          [&vectors, reads](int index) -> absl::StatusOr<std::vector<float>> {
            ++(*reads)[static_cast<size_t>(index)];
            return vectors[static_cast<size_t>(index)];
          }};
}

TEST(Gram, HoldsEveryProductHoweverFewVectorsAreHeld) {
  // Not multiples of a group, a lane or a chunk.
  for (const size_t elements : {size_t{1}, size_t{7}, size_t{1024}, size_t{2051}}) {
    const Vectors vectors = Random(23, elements, elements);
    std::vector<int> reads;
    const VectorSource source = SourceOf(vectors, &reads);
    for (const int64_t held : {0, 1, 2, 5, 22, 23, 1000}) {
      std::fill(reads.begin(), reads.end(), 0);
      const auto gram =
          GramOf(source, held * static_cast<int64_t>(elements * sizeof(float)), nullptr);
      ASSERT_TRUE(gram.ok()) << gram.status();
      const int blocks =
          held == 0 ? 23 : (23 + static_cast<int>(held) - 1) / static_cast<int>(held);
      for (const int count : reads) EXPECT_LE(count, blocks) << held;
      for (int i = 0; i < 23; ++i) {
        for (int j = 0; j < 23; ++j) {
          long double sum = 0, size = 0;
          for (size_t k = 0; k < elements; ++k) {
            const long double product =
                static_cast<long double>(vectors[static_cast<size_t>(i)][k]) *
                vectors[static_cast<size_t>(j)][k];
            sum += product;
            size += std::abs(product);
          }
          EXPECT_NEAR(gram->At(i, j), static_cast<double>(sum), static_cast<double>(1e-14L * size));
          EXPECT_EQ(gram->At(i, j), gram->At(j, i));
        }
      }
    }
  }
}

TEST(Gram, EqualVectorsHaveEqualProducts) {
  Vectors vectors = Random(9, 1500, 3);
  vectors[6] = vectors[1];
  std::vector<int> reads;
  const auto gram = GramOf(SourceOf(vectors, &reads), 4 * 1500 * 2, nullptr);
  ASSERT_TRUE(gram.ok()) << gram.status();
  for (int i = 0; i < 9; ++i) EXPECT_EQ(gram->At(1, i), gram->At(6, i)) << i;
}

TEST(Gram, ErrorsAndWrongLengthsEndTheWork) {
  const Vectors vectors = Random(5, 8, 1);
  std::vector<int> reads;
  VectorSource source = SourceOf(vectors, &reads);
  source.elements = 9;
  EXPECT_TRUE(absl::IsInternal(GramOf(source, 1 << 20, nullptr).status()));
  source = SourceOf(vectors, &reads);
  source.at = [](int index) -> absl::StatusOr<std::vector<float>> {
    if (index == 3) return absl::NotFoundError("gone");
    return std::vector<float>(8);
  };
  EXPECT_TRUE(absl::IsNotFound(GramOf(source, 0, nullptr).status()));
  source = SourceOf(vectors, &reads);
  int asked = 0;
  EXPECT_TRUE(absl::IsCancelled(GramOf(source, 0, [&] { return ++asked == 4; }).status()));
}

TEST(MatricesWithoutGauge, WhatNoOutputDependsOnIsGone) {
  State state = testing::MakeRecord(1).state;  // 2 layers, 2 heads of 4
  State moved = state;
  // A row vector added to every row of a matrix.
  for (size_t matrix = 0; matrix < 4; ++matrix) {
    for (size_t i = 0; i < 16; ++i) {
      moved.wkv[matrix * 16 + i] += static_cast<float>(matrix) + static_cast<float>(i % 4) / 8;
    }
  }
  const std::vector<int> layers = {0, 1};
  const std::vector<float> a = MatricesWithoutGauge(state, layers),
                           b = MatricesWithoutGauge(moved, layers);
  ASSERT_EQ(a.size(), 64u);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5) << i;
  // Every column sums to zero over the values.
  for (size_t column = 0; column < 4; ++column) {
    EXPECT_NEAR(a[column] + a[4 + column] + a[8 + column] + a[12 + column], 0, 1e-5);
  }
}

TEST(MatricesWithoutGauge, LayersComeInTheOrderAsked) {
  const State state = testing::MakeRecord(2).state;
  const std::vector<int> both = {1, 0}, second = {1};
  const std::vector<float> all = MatricesWithoutGauge(state, both),
                           one = MatricesWithoutGauge(state, second);
  ASSERT_EQ(one.size(), 32u);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin()));
}

TEST(MatricesWithoutGauge, TheLargestFiniteValuesStayFinite) {
  State state = State::Empty(testing::kSmallShape);
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (size_t i = 0; i < state.wkv.size(); ++i) state.wkv[i] = i % 16 < 4 ? kLargest : -kLargest;
  const std::vector<int> layers = {0, 1};
  for (const float value : MatricesWithoutGauge(state, layers)) {
    EXPECT_TRUE(std::isfinite(value)) << value;
  }
}

}  // namespace
}  // namespace dreamstate::state
