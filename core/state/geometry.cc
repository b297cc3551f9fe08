#include "core/state/geometry.h"

#include <algorithm>
#include <cmath>

namespace dreamstate::state {
namespace {

// Beside a Gram matrix whose largest element is at least 1, and far above the numbers that lose
// digits.
constexpr double kNegligible = 1e-200;

double SumOfSquares(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += double{value} * value;
  return sum;
}

// The Gram matrix A^T A, [n][n], of `matrix` times `scale`; the lower triangle alone.
std::vector<double> LowerGram(std::span<const float> matrix, size_t n, double scale) {
  std::vector<double> gram(n * n);
  std::vector<double> row(n);
  for (size_t r = 0; r < n; ++r) {
    for (size_t c = 0; c < n; ++c) row[c] = matrix[r * n + c] * scale;
    for (size_t i = 0; i < n; ++i) {
      double* const out = &gram[i * n];
      const double factor = row[i];
      for (size_t j = 0; j <= i; ++j) out[j] += factor * row[j];
    }
  }
  return gram;
}

// A symmetric tridiagonal matrix.
struct Tridiagonal {
  std::vector<double> diagonal;     // [n]
  std::vector<double> off_squared;  // [n]; [i] is the square of element (i, i - 1), [0] is 0
};

// The tridiagonal matrix with the eigenvalues of the symmetric matrix whose lower triangle is in
// `a`, by Householder reflections from the last row up. `a` is overwritten.
Tridiagonal Tridiagonalise(std::vector<double>& a, size_t n) {
  Tridiagonal result{std::vector<double>(n), std::vector<double>(n)};
  std::vector<double> p(n);
  for (size_t i = n - 1; i > 0; --i) {
    double* const u = &a[i * n];  // row i left of the diagonal, then the reflection's vector
    double tail = 0;
    for (size_t k = 0; k + 1 < i; ++k) tail += u[k] * u[k];
    const double last = u[i - 1];
    const double squared = tail + last * last;
    result.off_squared[i] = squared;
    if (tail < kNegligible) continue;  // is tridiagonal here already
    u[i - 1] += std::copysign(std::sqrt(squared), last);
    const double h = (tail + u[i - 1] * u[i - 1]) / 2;  // |u|^2 / 2
    // p = A u / h of the leading block, reading its lower triangle.
    std::fill(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(i), 0.0);
    for (size_t r = 0; r < i; ++r) {
      const double* const row = &a[r * n];
      const double factor = u[r];
      double sum = 0;
      for (size_t c = 0; c < r; ++c) {
        sum += row[c] * u[c];
        p[c] += row[c] * factor;
      }
      p[r] += sum + row[r] * factor;
    }
    double up = 0;
    for (size_t k = 0; k < i; ++k) {
      p[k] /= h;
      up += u[k] * p[k];
    }
    // A -= u q^T + q u^T with q = p - (u^T p / 2h) u.
    const double half = up / (2 * h);
    for (size_t k = 0; k < i; ++k) p[k] -= half * u[k];
    for (size_t r = 0; r < i; ++r) {
      double* const row = &a[r * n];
      for (size_t c = 0; c <= r; ++c) row[c] -= u[r] * p[c] + p[r] * u[c];
    }
  }
  for (size_t i = 0; i < n; ++i) result.diagonal[i] = a[i * n + i];
  return result;
}

// Whether an eigenvalue is greater than `bound`: the number of those that are not is that of the
// negative pivots of T - bound (Sturm).
bool HasEigenvalueAbove(const Tridiagonal& t, double bound, double tiny) {
  const size_t n = t.diagonal.size();
  double pivot = 1;
  size_t below = 0;
  for (size_t i = 0; i < n; ++i) {
    pivot = t.diagonal[i] - bound - t.off_squared[i] / pivot;
    if (std::fabs(pivot) < tiny) pivot = -tiny;
    if (pivot < 0) ++below;
  }
  return below < n;
}

double LargestEigenvalue(const Tridiagonal& t) {
  const size_t n = t.diagonal.size();
  double low = t.diagonal[0];
  double high = t.diagonal[0];
  for (size_t i = 0; i < n; ++i) {
    const double left = std::sqrt(t.off_squared[i]);
    const double right = i + 1 < n ? std::sqrt(t.off_squared[i + 1]) : 0;
    low = std::max(low, t.diagonal[i]);
    high = std::max(high, t.diagonal[i] + left + right);
  }
  const double tiny = std::max(high, 1e-280) * 1e-30;
  while (true) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return high;
    (HasEigenvalueAbove(t, middle, tiny) ? low : high) = middle;
  }
}

double SpectralNorm(std::span<const float> matrix, size_t n) {
  float largest = 0;
  for (const float value : matrix) largest = std::max(largest, std::fabs(value));
  if (largest == 0) return 0;
  // Scaled, because a reflection multiplies four values.
  std::vector<double> gram = LowerGram(matrix, n, 1.0 / largest);
  return std::sqrt(std::max(0.0, LargestEigenvalue(Tridiagonalise(gram, n)))) * largest;
}

// What a difference is made of; those of parts add up to that of the whole.
struct Products {
  double aa = 0, bb = 0, ab = 0, distance = 0;

  void Add(std::span<const float> a, std::span<const float> b) {
    for (size_t i = 0; i < a.size(); ++i) {
      const double x = a[i];
      const double y = b[i];
      aa += x * x;
      bb += y * y;
      ab += x * y;
      distance += (x - y) * (x - y);
    }
  }
  void Add(const Products& other) {
    aa += other.aa;
    bb += other.bb;
    ab += other.ab;
    distance += other.distance;
  }
  Difference Result() const {
    if (aa == 0 && bb == 0) return {};
    Difference result;
    result.relative_distance = std::min(2.0, std::sqrt(distance / std::max(aa, bb)));
    result.cosine =
        aa == 0 || bb == 0 ? 0.0 : std::clamp(ab / (std::sqrt(aa) * std::sqrt(bb)), -1.0, 1.0);
    return result;
  }
};

Products ProductsOf(std::span<const float> a, std::span<const float> b) {
  Products products;
  products.Add(a, b);
  return products;
}

}  // namespace

HeadGeometry GeometryOf(std::span<const float> matrix, int n) {
  HeadGeometry result;
  result.rms = RootMeanSquare(matrix);
  if (result.rms == 0) return result;
  result.spectral_norm = SpectralNorm(matrix, static_cast<size_t>(n));
  const double ratio = result.rms * n / result.spectral_norm;
  result.stable_rank = std::clamp(ratio * ratio, 1.0, static_cast<double>(n));
  return result;
}

double RootMeanSquare(std::span<const float> values) {
  if (values.empty()) return 0;
  return std::sqrt(SumOfSquares(values) / static_cast<double>(values.size()));
}

Difference DifferenceOf(std::span<const float> a, std::span<const float> b) {
  return ProductsOf(a, b).Result();
}

std::span<const float> HeadOf(const State& state, int layer, int head) {
  const size_t elements =
      static_cast<size_t>(state.shape.head_size) * static_cast<size_t>(state.shape.head_size);
  const size_t index = static_cast<size_t>(layer) * static_cast<size_t>(state.shape.heads) +
                       static_cast<size_t>(head);
  return std::span(state.wkv).subspan(index * elements, elements);
}

std::span<const float> ShiftOf(const State& state, int layer, int mix) {
  const size_t width = static_cast<size_t>(state.shape.width);
  return std::span(state.shift)
      .subspan((static_cast<size_t>(layer) * 2 + static_cast<size_t>(mix)) * width, width);
}

StateDifference Compare(const State& a, const State& b) {
  StateDifference result;
  Products total;
  for (int layer = 0; layer < a.shape.layers; ++layer) {
    for (int head = 0; head < a.shape.heads; ++head) {
      const Products products = ProductsOf(HeadOf(a, layer, head), HeadOf(b, layer, head));
      result.heads.push_back(products.Result());
      total.Add(products);
    }
    result.time_mix_shift.push_back(DifferenceOf(ShiftOf(a, layer, 0), ShiftOf(b, layer, 0)));
    result.channel_mix_shift.push_back(DifferenceOf(ShiftOf(a, layer, 1), ShiftOf(b, layer, 1)));
  }
  result.total = total.Result();
  return result;
}

}  // namespace dreamstate::state
