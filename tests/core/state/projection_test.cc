#include "core/state/projection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace dreamstate::state {
namespace {

using Vectors = std::vector<std::vector<double>>;

Gram GramOfVectors(const Vectors& vectors) {
  Gram gram{.count = static_cast<int>(vectors.size())};
  for (const std::vector<double>& a : vectors) {
    for (const std::vector<double>& b : vectors) {
      double sum = 0;
      for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
      gram.products.push_back(sum);
    }
  }
  return gram;
}

double Distance(const Point& a, const Point& b) { return std::hypot(a.x - b.x, a.y - b.y); }

double Normal(std::mt19937_64& random) { return std::normal_distribution<double>()(random); }

// Points of a plane in a space of `size` dimensions, all of them moved by one vector.
Vectors OnAPlane(const std::vector<Point>& points, size_t size, double offset) {
  std::mt19937_64 random(7);
  std::vector<double> u(size), v(size), origin(size);
  for (size_t i = 0; i < size; ++i) {
    u[i] = Normal(random);
    v[i] = Normal(random);
    origin[i] = offset * Normal(random);
  }
  const auto dot = [](const auto& a, const auto& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  const double length = std::sqrt(dot(u, u));
  for (double& value : u) value /= length;
  const double along = dot(u, v);
  for (size_t i = 0; i < size; ++i) v[i] -= along * u[i];
  const double other = std::sqrt(dot(v, v));
  for (double& value : v) value /= other;
  Vectors result;
  for (const Point& point : points) {
    std::vector<double>& out = result.emplace_back(origin);
    for (size_t i = 0; i < size; ++i) out[i] += point.x * u[i] + point.y * v[i];
  }
  return result;
}

// `clusters` of `each`, far apart in 50 dimensions; point i belongs to cluster i % clusters.
Vectors Clusters(size_t clusters, size_t each) {
  std::mt19937_64 random(11);
  Vectors centres(clusters, std::vector<double>(50)), result;
  for (std::vector<double>& centre : centres) {
    for (double& value : centre) value = 2 * Normal(random);
  }
  for (size_t i = 0; i < clusters * each; ++i) {
    std::vector<double>& point = result.emplace_back(centres[i % clusters]);
    for (double& value : point) value += Normal(random);
  }
  return result;
}

void ExpectFinite(const std::vector<Point>& points) {
  for (const Point& point : points) {
    EXPECT_TRUE(std::isfinite(point.x) && std::isfinite(point.y)) << point.x << ", " << point.y;
  }
}

TEST(PrincipalComponents, APlaneInManyDimensionsIsRecovered) {
  std::mt19937_64 random(1);
  std::vector<Point> points(40);
  for (Point& point : points) point = {5 * Normal(random), 2 * Normal(random)};
  for (const double offset : {0.0, 100.0}) {
    const auto found = PrincipalComponentsOf(GramOfVectors(OnAPlane(points, 300, offset)), nullptr);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_NEAR(found->explained[0] + found->explained[1], 1, 1e-8);
    EXPECT_GT(found->explained[0], found->explained[1]);
    double mean_x = 0, mean_y = 0, product = 0;
    for (size_t i = 0; i < points.size(); ++i) {
      mean_x += found->points[i].x;
      mean_y += found->points[i].y;
      product += found->points[i].x * found->points[i].y;
      for (size_t j = 0; j < i; ++j) {
        EXPECT_NEAR(Distance(found->points[i], found->points[j]), Distance(points[i], points[j]),
                    1e-6);
      }
    }
    EXPECT_NEAR(mean_x, 0, 1e-8);
    EXPECT_NEAR(mean_y, 0, 1e-8);
    EXPECT_NEAR(product, 0, 1e-6) << "directions are at right angles";
  }
}

TEST(PrincipalComponents, CloseVariancesAreToldApart) {
  // Variances 1, 0.99, 0.98, ... along the axes: points at plus and minus each.
  Vectors vectors;
  for (size_t axis = 0; axis < 60; ++axis) {
    for (const double sign : {1.0, -1.0}) {
      vectors.emplace_back(60)[axis] = sign * std::sqrt(1 - 0.01 * static_cast<double>(axis));
    }
  }
  const auto found = PrincipalComponentsOf(GramOfVectors(vectors), nullptr);
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < vectors.size(); ++i) {
    EXPECT_NEAR(std::fabs(found->points[i].x), i < 2 ? 1 : 0, 1e-6) << i;
    EXPECT_NEAR(std::fabs(found->points[i].y), i == 2 || i == 3 ? std::sqrt(0.99) : 0, 1e-6) << i;
  }
}

TEST(PrincipalComponents, TheFurthestPointIsOnThePositiveSide) {
  std::vector<Point> points(12);
  std::mt19937_64 random(2);
  for (Point& point : points) point = {Normal(random), 0.5 * Normal(random)};
  for (const double sign : {1.0, -1.0}) {
    points[4] = {sign * 20, 0};
    points[9] = {0, sign * 9};
    const auto found = PrincipalComponentsOf(GramOfVectors(OnAPlane(points, 20, 0)), nullptr);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_GT(found->points[4].x, 15);
    EXPECT_GT(found->points[9].y, 7);
  }
}

TEST(PrincipalComponents, EqualVectorsLieAtTheOrigin) {
  const Vectors same(5, {0.1, 0.2, 0.3});
  for (const Vectors& vectors : {same, Vectors(3, std::vector<double>(4, 0.0))}) {
    const auto found = PrincipalComponentsOf(GramOfVectors(vectors), nullptr);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->explained[0], 0);
    for (const Point& point : found->points) EXPECT_EQ(Distance(point, {}), 0);
  }
  // All but one, and all on a line: nothing is left for the second direction.
  Vectors line(6, {1, 1, 1});
  line[2] = {2, 2, 2};
  const auto found = PrincipalComponentsOf(GramOfVectors(line), nullptr);
  ASSERT_TRUE(found.ok()) << found.status();
  ExpectFinite(found->points);
  EXPECT_NEAR(found->explained[0], 1, 1e-9);
  EXPECT_NEAR(Distance(found->points[2], found->points[0]), std::sqrt(3), 1e-6);
}

TEST(PrincipalComponents, ExtremeSizesGiveNumbers) {
  for (const double size : {1e-30, 1e38}) {
    Vectors vectors = Clusters(3, 4);
    for (std::vector<double>& vector : vectors) {
      for (double& value : vector) value *= size;
    }
    const auto found = PrincipalComponentsOf(GramOfVectors(vectors), nullptr);
    ASSERT_TRUE(found.ok()) << found.status();
    ExpectFinite(found->points);
    EXPECT_GT(found->explained[0], 0.3) << size;
    const auto map = TsneOf(GramOfVectors(vectors), {.perplexity = 3}, nullptr);
    ASSERT_TRUE(map.ok()) << map.status();
    ExpectFinite(*map);
  }
}

TEST(Tsne, ClustersAreTogetherAndApart) {
  const auto map = TsneOf(GramOfVectors(Clusters(4, 25)), {.perplexity = 15, .seed = 1}, nullptr);
  ASSERT_TRUE(map.ok()) << map.status();
  double widest = 0, nearest = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < map->size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double distance = Distance((*map)[i], (*map)[j]);
      if (i % 4 == j % 4) {
        widest = std::max(widest, distance);
      } else {
        nearest = std::min(nearest, distance);
      }
    }
  }
  EXPECT_GT(nearest, widest);
}

TEST(Tsne, NeighboursAreTheDistancesOnes) {
  // A closed curve in 30 dimensions: who was beside whom still is.
  Vectors vectors;
  for (int i = 0; i < 60; ++i) {
    const double angle = i * 2 * std::acos(-1.0) / 60;
    std::vector<double>& vector = vectors.emplace_back(30);
    vector[3] = std::cos(angle);
    vector[17] = std::sin(angle);
  }
  const auto map = TsneOf(GramOfVectors(vectors), {.perplexity = 5, .seed = 3}, nullptr);
  ASSERT_TRUE(map.ok()) << map.status();
  int kept = 0;
  for (size_t i = 0; i < 60; ++i) {
    size_t nearest = i == 0 ? 1 : 0;
    for (size_t j = 0; j < 60; ++j) {
      if (j != i && Distance((*map)[i], (*map)[j]) < Distance((*map)[i], (*map)[nearest])) {
        nearest = j;
      }
    }
    const size_t around = (nearest + 60 - i) % 60;
    kept += around <= 2 || around >= 58;
  }
  EXPECT_GE(kept, 55);
}

TEST(Tsne, TheSeedDecidesTheMap) {
  const Gram gram = GramOfVectors(Clusters(3, 8));
  const auto first = TsneOf(gram, {.perplexity = 5, .seed = 1}, nullptr),
             again = TsneOf(gram, {.perplexity = 5, .seed = 1}, nullptr),
             other = TsneOf(gram, {.perplexity = 5, .seed = 2}, nullptr);
  ASSERT_TRUE(first.ok() && again.ok() && other.ok());
  bool differs = false;
  for (size_t i = 0; i < first->size(); ++i) {
    EXPECT_EQ((*first)[i].x, (*again)[i].x);
    EXPECT_EQ((*first)[i].y, (*again)[i].y);
    differs |= (*first)[i].x != (*other)[i].x;
  }
  EXPECT_TRUE(differs);
}

TEST(Tsne, EqualVectorsGiveNumbers) {
  const Vectors same(8, {0.1, 0.2, 0.3});
  const auto all = TsneOf(GramOfVectors(same), {.perplexity = 3}, nullptr);
  ASSERT_TRUE(all.ok()) << all.status();
  ExpectFinite(*all);
  // More that are equal than count as neighbours, and others.
  Vectors some = Clusters(2, 10);
  for (size_t i = 0; i < 7; ++i) some[i] = some[0];
  const auto map = TsneOf(GramOfVectors(some), {.perplexity = 2}, nullptr);
  ASSERT_TRUE(map.ok()) << map.status();
  ExpectFinite(*map);
}

TEST(Tsne, FewPointsAndExtremePerplexities) {
  for (const size_t count : {size_t{3}, size_t{4}, size_t{10}}) {
    for (const double perplexity : {1.0, static_cast<double>(count - 1)}) {
      const auto map =
          TsneOf(GramOfVectors(Clusters(1, count)), {.perplexity = perplexity}, nullptr);
      ASSERT_TRUE(map.ok()) << map.status();
      EXPECT_EQ(map->size(), count);
      ExpectFinite(*map);
    }
  }
}

TEST(Projection, RefusesWhatCannotBe) {
  EXPECT_TRUE(absl::IsInvalidArgument(PrincipalComponentsOf({}, nullptr).status()));
  const Gram two = GramOfVectors(Clusters(1, 2)), ten = GramOfVectors(Clusters(1, 10));
  EXPECT_TRUE(absl::IsInvalidArgument(PrincipalComponentsOf(two, nullptr).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(TsneOf(two, {.perplexity = 1}, nullptr).status()));
  for (const double perplexity : {0.5, 9.1, -1.0, std::nan("")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(TsneOf(ten, {.perplexity = perplexity}, nullptr).status()))
        << perplexity;
  }
}

TEST(Projection, EveryIterationCanBeTheLast) {
  const Gram gram = GramOfVectors(Clusters(2, 5));
  EXPECT_TRUE(absl::IsCancelled(PrincipalComponentsOf(gram, [] { return true; }).status()));
  // 10 for the neighbours of each point, then one an iteration.
  for (const int last : {1, 11, 400, 760}) {
    int asked = 0;
    EXPECT_TRUE(absl::IsCancelled(
        TsneOf(gram, {.perplexity = 3}, [&] { return ++asked == last; }).status()));
    EXPECT_EQ(asked, last);
  }
}

}  // namespace
}  // namespace dreamstate::state
