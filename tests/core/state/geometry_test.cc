#include "core/state/geometry.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/core/state/state_fixtures.h"

namespace dreamstate::state {
namespace {

using Matrix = std::vector<float>;

Matrix Random(int n, uint64_t seed, float scale = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Matrix matrix(static_cast<size_t>(n) * static_cast<size_t>(n));
  for (float& value : matrix) value = normal(random) * scale;
  return matrix;
}

Matrix Outer(const std::vector<float>& left, const std::vector<float>& right) {
  Matrix matrix;
  for (const float l : left) {
    for (const float r : right) matrix.push_back(l * r);
  }
  return matrix;
}

// The slow reference: singular values by one-sided Jacobi rotations, which never form the Gram
// matrix.
std::vector<long double> SingularValues(const Matrix& matrix, int n) {
  const size_t size = static_cast<size_t>(n);
  std::vector<std::vector<long double>> columns(size, std::vector<long double>(size));
  for (size_t r = 0; r < size; ++r) {
    for (size_t c = 0; c < size; ++c) columns[c][r] = matrix[r * size + c];
  }
  const auto dot = [](const std::vector<long double>& a, const std::vector<long double>& b) {
    long double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool rotated = false;
    for (size_t p = 0; p < size; ++p) {
      for (size_t q = p + 1; q < size; ++q) {
        const long double pp = dot(columns[p], columns[p]), qq = dot(columns[q], columns[q]),
                          pq = dot(columns[p], columns[q]);
        if (std::fabs(pq) <= 1e-18L * std::sqrt(pp * qq)) continue;
        rotated = true;
        const long double zeta = (qq - pp) / (2 * pq);
        const long double t =
            std::copysign(1.0L, zeta) / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta));
        const long double cosine = 1 / std::sqrt(1 + t * t), sine = cosine * t;
        for (size_t i = 0; i < size; ++i) {
          const long double x = columns[p][i], y = columns[q][i];
          columns[p][i] = cosine * x - sine * y;
          columns[q][i] = sine * x + cosine * y;
        }
      }
    }
    if (!rotated) break;
  }
  std::vector<long double> values;
  for (const auto& column : columns) values.push_back(std::sqrt(dot(column, column)));
  std::sort(values.rbegin(), values.rend());
  return values;
}

void ExpectAsReference(const Matrix& matrix, int n) {
  const std::vector<long double> values = SingularValues(matrix, n);
  const HeadGeometry geometry = GeometryOf(matrix, n);
  long double squares = 0;
  for (const long double value : values) squares += value * value;
  const double largest = static_cast<double>(values[0]);
  EXPECT_NEAR(geometry.spectral_norm / largest, 1, 1e-13);
  EXPECT_NEAR(geometry.stable_rank, static_cast<double>(squares / (values[0] * values[0])),
              n * 1e-12);
  EXPECT_NEAR(geometry.rms / static_cast<double>(std::sqrt(squares) / n), 1, 1e-13);
}

TEST(Geometry, SpectralNormsAreThoseOfTheSlowReference) {
  for (const int n : {1, 2, 3, 5, 16, 31, 64}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      SCOPED_TRACE(::testing::Message() << "n " << n << " seed " << seed);
      ExpectAsReference(Random(n, seed), n);
    }
  }
}

TEST(Geometry, ExtremeScalesNeitherOverflowNorVanish) {
  for (const float scale : {1e-37f, 1e-20f, 1e20f, 2e37f}) {
    SCOPED_TRACE(scale);
    ExpectAsReference(Random(16, 3, scale), 16);
  }
  const float largest = std::numeric_limits<float>::max();
  const HeadGeometry huge = GeometryOf(Matrix(64 * 64, largest), 64);
  EXPECT_NEAR(huge.spectral_norm / (64.0 * largest), 1, 1e-13);
  const float least = std::numeric_limits<float>::denorm_min();
  const HeadGeometry small = GeometryOf(Matrix(64 * 64, least), 64);
  EXPECT_NEAR(small.spectral_norm / (64.0 * least), 1, 1e-13);
  EXPECT_NEAR(small.rms / least, 1, 1e-13);
}

TEST(Geometry, ManyScalesInOneMatrixAgreeWithTheReference) {
  Matrix matrix = Random(32, 9);
  for (size_t r = 0; r < 32; ++r) {
    for (size_t c = 0; c < 32; ++c) {
      matrix[r * 32 + c] *=
          std::pow(10.0f, static_cast<float>(r) - 16) * std::pow(2.0f, -static_cast<float>(c));
    }
  }
  ExpectAsReference(matrix, 32);
}

TEST(Geometry, ValuesThatAlmostVanishBesideOthersDoNoHarm) {
  Matrix matrix = Random(16, 11, 1e-38f);
  matrix[0] = std::numeric_limits<float>::max();
  for (size_t i = 0; i < 16; ++i) matrix[i * 16 + 15] = std::numeric_limits<float>::denorm_min();
  ExpectAsReference(matrix, 16);
}

TEST(Geometry, RankOneHasOneDirection) {
  std::vector<float> left(64), right(64);
  for (size_t i = 0; i < 64; ++i) {
    left[i] = static_cast<float>(i % 7) - 3;
    right[i] = static_cast<float>(i % 5) - 2;
  }
  const HeadGeometry geometry = GeometryOf(Outer(left, right), 64);
  EXPECT_NEAR(geometry.stable_rank, 1, 1e-12);
  EXPECT_GE(geometry.stable_rank, 1);
}

TEST(Geometry, TheIdentityUsesAllDirections) {
  for (const int n : {1, 2, 64}) {
    const size_t size = static_cast<size_t>(n);
    Matrix matrix(size * size);
    for (size_t i = 0; i < size; ++i) matrix[i * size + (i * 3 + 1) % size] = -2;  // permuted
    if (n == 2) matrix = {0, -2, -2, 0};
    const HeadGeometry geometry = GeometryOf(matrix, n);
    EXPECT_NEAR(geometry.spectral_norm, 2, 1e-14);
    EXPECT_NEAR(geometry.stable_rank, n, 1e-11);
    EXPECT_LE(geometry.stable_rank, n);
  }
}

TEST(Geometry, TheZeroMatrixIsZeroThroughout) {
  const HeadGeometry geometry = GeometryOf(Matrix(64 * 64), 64);
  EXPECT_EQ(geometry.rms, 0);
  EXPECT_EQ(geometry.spectral_norm, 0);
  EXPECT_EQ(geometry.stable_rank, 0);
  EXPECT_EQ(RootMeanSquare({}), 0);
}

TEST(Geometry, DifferencesOfVectors) {
  const std::vector<float> a = {3, 4, 0}, b = {4, -3, 0}, zero = {0, 0, 0}, opposite = {-3, -4, 0},
                           twice = {6, 8, 0};
  EXPECT_NEAR(DifferenceOf(a, b).cosine, 0, 1e-15);
  EXPECT_NEAR(DifferenceOf(a, b).relative_distance, std::sqrt(2), 1e-15);
  EXPECT_EQ(DifferenceOf(a, a).cosine, 1);
  EXPECT_EQ(DifferenceOf(a, a).relative_distance, 0);
  EXPECT_EQ(DifferenceOf(a, opposite).cosine, -1);
  EXPECT_EQ(DifferenceOf(a, opposite).relative_distance, 2);
  EXPECT_EQ(DifferenceOf(a, twice).cosine, 1);
  EXPECT_EQ(DifferenceOf(a, twice).relative_distance, 0.5);
  EXPECT_EQ(DifferenceOf(twice, a).relative_distance, 0.5);
  EXPECT_EQ(DifferenceOf(zero, zero).cosine, 1);
  EXPECT_EQ(DifferenceOf(zero, zero).relative_distance, 0);
  EXPECT_EQ(DifferenceOf(a, zero).cosine, 0);
  EXPECT_EQ(DifferenceOf(a, zero).relative_distance, 1);
}

TEST(Geometry, DifferencesOfExtremeValuesStayInRange) {
  const float largest = std::numeric_limits<float>::max();
  const float least = std::numeric_limits<float>::denorm_min();
  for (const float scale : {largest, least}) {
    const std::vector<float> a(1000, scale), b(1000, -scale);
    EXPECT_NEAR(DifferenceOf(a, b).cosine, -1, 1e-12);
    EXPECT_NEAR(DifferenceOf(a, b).relative_distance, 2, 1e-12);
    EXPECT_LE(DifferenceOf(a, b).relative_distance, 2);
  }
}

TEST(Geometry, ComparisonsNameLayersAndHeads) {
  const State a = testing::MakeRecord(1).state;
  State b = a;
  const Shape& shape = a.shape;  // 2 layers, 2 heads of 4
  // Layer 1, head 0 is turned round; layer 0's channel mix is doubled.
  const size_t head = static_cast<size_t>(shape.head_size * shape.head_size);
  for (size_t i = 0; i < head; ++i) b.wkv[2 * head + i] *= -1;
  for (size_t i = 0; i < static_cast<size_t>(shape.width); ++i) {
    b.shift[static_cast<size_t>(shape.width) + i] *= 2;
  }
  const StateDifference difference = Compare(a, b);
  ASSERT_EQ(difference.heads.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(difference.heads[i].cosine, i == 2 ? -1 : 1, 1e-14);
    EXPECT_NEAR(difference.heads[i].relative_distance, i == 2 ? 2 : 0, 1e-14);
  }
  ASSERT_EQ(difference.channel_mix_shift.size(), 2u);
  EXPECT_NEAR(difference.channel_mix_shift[0].relative_distance, 0.5, 1e-7);
  EXPECT_EQ(difference.channel_mix_shift[1].relative_distance, 0);
  EXPECT_EQ(difference.time_mix_shift[0].relative_distance, 0);
  // The whole is the sum of the parts.
  const Difference whole = DifferenceOf(a.wkv, b.wkv);
  EXPECT_NEAR(difference.total.cosine, whole.cosine, 1e-14);
  EXPECT_NEAR(difference.total.relative_distance, whole.relative_distance, 1e-14);
}

}  // namespace
}  // namespace dreamstate::state
