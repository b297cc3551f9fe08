#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/state/projection.h"

namespace dreamstate::state {
namespace {

using Vector = std::vector<double>;

constexpr uint32_t kStartStream = 0x50434153;  // "PCAS"
constexpr size_t kBlock = 4;                   // directions that are followed at once
constexpr size_t kDepth = 10;                  // products with the matrix before they are combined
constexpr int kMostCycles = 100;
constexpr double kTolerance = 1e-11;  // of a residual, beside the variance
constexpr double kDependent = 1e-10;  // what is left of a vector that adds no direction
// A variance below this share of the vectors' squares is rounding errors alone.
constexpr double kRounding = 1e-13;

double Dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void AddTo(Vector& a, double factor, const Vector& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
}

// A symmetric matrix of n x n.
struct Symmetric {
  size_t n = 0;
  std::vector<double> values;
  double& At(size_t i, size_t j) { return values[i * n + j]; }
  double At(size_t i, size_t j) const { return values[i * n + j]; }

  Vector Times(const Vector& v) const {
    Vector result(n);
    for (size_t i = 0; i < n; ++i) {
      const double* const row = &values[i * n];
      double sums[4] = {};
      size_t j = 0;
      for (; j + 4 <= n; j += 4) {
        for (size_t lane = 0; lane < 4; ++lane) sums[lane] += row[j + lane] * v[j + lane];
      }
      for (; j < n; ++j) sums[0] += row[j] * v[j];
      result[i] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
    return result;
  }
};

// Inner products of the vectors minus their mean.
Symmetric Centred(const Gram& gram) {
  const auto n = static_cast<size_t>(gram.count);
  Symmetric result{n, gram.products};
  Vector mean(n);
  double all = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) mean[i] += result.At(i, j);
    mean[i] /= static_cast<double>(n);
    all += mean[i];
  }
  all /= static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) result.At(i, j) += all - mean[i] - mean[j];
  }
  return result;
}

struct Eigenpair {
  double value = 0;
  Vector vector;
};

// All of a small matrix by Jacobi rotations, largest value first.
std::vector<Eigenpair> EigenpairsOf(Symmetric a) {
  const size_t n = a.n;
  std::vector<Eigenpair> pairs(n);
  for (size_t i = 0; i < n; ++i) {
    pairs[i].vector.assign(n, 0.0);
    pairs[i].vector[i] = 1;
  }
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool rotated = false;
    for (size_t p = 0; p < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) {
        const double off = a.At(p, q);
        if (std::fabs(off) <= 1e-300 ||
            std::fabs(off) <= 1e-17 * std::fabs(a.At(p, p) + a.At(q, q))) {
          continue;
        }
        rotated = true;
        const double zeta = (a.At(q, q) - a.At(p, p)) / (2 * off);
        const double t = std::copysign(1.0, zeta) / (std::fabs(zeta) + std::hypot(1.0, zeta));
        const double cosine = 1 / std::hypot(1.0, t), sine = cosine * t;
        for (size_t i = 0; i < n; ++i) {
          const double x = a.At(i, p), y = a.At(i, q);
          a.At(i, p) = cosine * x - sine * y;
          a.At(i, q) = sine * x + cosine * y;
        }
        for (size_t i = 0; i < n; ++i) {
          const double x = a.At(p, i), y = a.At(q, i);
          a.At(p, i) = cosine * x - sine * y;
          a.At(q, i) = sine * x + cosine * y;
        }
        for (size_t i = 0; i < n; ++i) {
          const double x = pairs[p].vector[i], y = pairs[q].vector[i];
          pairs[p].vector[i] = cosine * x - sine * y;
          pairs[q].vector[i] = sine * x + cosine * y;
        }
      }
    }
    if (!rotated) break;
  }
  for (size_t i = 0; i < n; ++i) pairs[i].value = a.At(i, i);
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Eigenpair& x, const Eigenpair& y) { return x.value > y.value; });
  return pairs;
}

// An orthonormal basis and what the matrix makes of it.
class Subspace {
 public:
  explicit Subspace(const Symmetric& matrix) : matrix_(matrix) {}

  // False when the vector adds no direction.
  bool Add(Vector vector) {
    const double before = std::sqrt(Dot(vector, vector));
    if (!(before > 1e-150)) return false;
    for (double& value : vector) value /= before;
    for (int pass = 0; pass < 2; ++pass) {
      for (const Vector& direction : basis_) AddTo(vector, -Dot(direction, vector), direction);
      const double left = std::sqrt(Dot(vector, vector));
      if (!(left > kDependent)) return false;
      for (double& value : vector) value /= left;
    }
    products_.push_back(matrix_.Times(vector));
    basis_.push_back(std::move(vector));
    return true;
  }
  size_t size() const { return basis_.size(); }
  const Vector& product(size_t i) const { return products_[i]; }

  // The best approximations of the matrix's largest eigenpairs, with how far off they are.
  struct Approximation {
    Eigenpair pair;
    double residual = 0;
  };
  std::vector<Approximation> Largest(size_t count) const {
    Symmetric small{size(), std::vector<double>(size() * size())};
    for (size_t i = 0; i < size(); ++i) {
      for (size_t j = 0; j <= i; ++j) {
        small.At(i, j) = small.At(j, i) = Dot(basis_[i], products_[j]);
      }
    }
    const std::vector<Eigenpair> pairs = EigenpairsOf(std::move(small));
    std::vector<Approximation> result;
    for (size_t k = 0; k < std::min(count, pairs.size()); ++k) {
      Approximation found{{pairs[k].value, Vector(matrix_.n)}};
      Vector off(matrix_.n);
      for (size_t i = 0; i < size(); ++i) {
        AddTo(found.pair.vector, pairs[k].vector[i], basis_[i]);
        AddTo(off, pairs[k].vector[i], products_[i]);
      }
      AddTo(off, -found.pair.value, found.pair.vector);
      found.residual = std::sqrt(Dot(off, off));
      result.push_back(std::move(found));
    }
    return result;
  }

 private:
  const Symmetric& matrix_;
  std::vector<Vector> basis_, products_;
};

// The two largest eigenpairs of a matrix whose trace is 1, by block Krylov spaces that begin anew
// from the best of the last one.
absl::StatusOr<std::vector<Eigenpair>> TwoLargest(const Symmetric& matrix,
                                                  const Stopping& stopping) {
  Draws draws(0, kStartStream, 0);
  std::vector<Vector> start(kBlock, Vector(matrix.n));
  for (Vector& vector : start) {
    for (double& value : vector) value = draws.Uniform() - 0.5;
  }
  for (int cycle = 0;; ++cycle) {
    Subspace space(matrix);
    for (Vector& vector : start) space.Add(std::move(vector));
    size_t first = 0;
    for (size_t depth = 1; depth < kDepth; ++depth) {
      DS_RETURN_IF_ERROR(CheckStopping(stopping));
      const size_t last = space.size();
      for (; first < last; ++first) space.Add(space.product(first));
    }
    const auto found = space.Largest(kBlock);
    double residual = 0;
    for (size_t k = 0; k < std::min<size_t>(2, found.size()); ++k) {
      residual = std::max(residual, found[k].residual);
    }
    start.clear();
    std::vector<Eigenpair> pairs;
    for (const Subspace::Approximation& one : found) {
      start.push_back(one.pair.vector);
      if (pairs.size() < 2) pairs.push_back(one.pair);
    }
    if (residual <= kTolerance || cycle + 1 == kMostCycles) return pairs;
  }
}

}  // namespace

absl::StatusOr<PrincipalComponents> PrincipalComponentsOf(const Gram& gram,
                                                          const Stopping& stopping) {
  if (gram.count < 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("principal components: expected at least 3 vectors, found ", gram.count));
  }
  PrincipalComponents result;
  result.points.resize(static_cast<size_t>(gram.count));
  Symmetric centred = Centred(gram);
  double raw = 0, variance = 0;
  for (size_t i = 0; i < centred.n; ++i) {
    raw += gram.products[i * centred.n + i];
    variance += centred.At(i, i);
  }
  if (!(variance > raw * kRounding)) return result;
  for (double& value : centred.values) value /= variance;
  DS_ASSIGN_OR_RETURN(const std::vector<Eigenpair> pairs, TwoLargest(centred, stopping));
  for (size_t k = 0; k < pairs.size(); ++k) {
    if (!(pairs[k].value * variance > raw * kRounding)) continue;
    const Vector& direction = pairs[k].vector;
    const double share = std::clamp(pairs[k].value, 0.0, 1.0);
    const auto furthest =
        std::max_element(direction.begin(), direction.end(),
                         [](double a, double b) { return std::fabs(a) < std::fabs(b); });
    const double scale = std::copysign(std::sqrt(share * variance), *furthest);
    result.explained[k] = share;
    for (size_t i = 0; i < centred.n; ++i) {
      (k == 0 ? result.points[i].x : result.points[i].y) = direction[i] * scale;
    }
  }
  return result;
}

}  // namespace dreamstate::state
