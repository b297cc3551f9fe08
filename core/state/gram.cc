#include "core/state/gram.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/state/geometry.h"

namespace dreamstate::state {
namespace {

// Vectors that meet a held one at once, so that it is read from memory a quarter as often.
constexpr size_t kGroup = 4;
// Elements of each that are at work at once: a group of them, as doubles, stays in the first cache.
constexpr size_t kChunk = 1024;
constexpr size_t kLanes = 4;  // sums that run beside each other
using Sums = std::array<double, kGroup>;

class Group {
 public:
  explicit Group(std::span<const std::vector<float>* const> members) : members_(members) {}

  // Elements [begin, begin + kChunk) of every member, zeros where there are none.
  void Load(size_t begin) {
    for (size_t member = 0; member < kGroup; ++member) {
      std::array<double, kChunk>& row = rows_[member];
      size_t count = 0;
      if (member < members_.size()) {
        const std::vector<float>& from = *members_[member];
        count = std::min(kChunk, from.size() - begin);
        for (size_t i = 0; i < count; ++i) row[i] = from[begin + i];
      }
      std::fill(row.begin() + static_cast<std::ptrdiff_t>(count), row.end(), 0.0);
    }
  }

  // Of the loaded elements with those of another vector.
  Sums Products(std::span<const float> other) const {
    double sums[kGroup][kLanes] = {};
    const size_t whole = other.size() / kLanes * kLanes;
    for (size_t i = 0; i < whole; i += kLanes) {
      for (size_t member = 0; member < kGroup; ++member) {
        for (size_t lane = 0; lane < kLanes; ++lane) {
          sums[member][lane] += rows_[member][i + lane] * double{other[i + lane]};
        }
      }
    }
    Sums result;
    for (size_t member = 0; member < kGroup; ++member) {
      const double* const lane = sums[member];
      result[member] = (lane[0] + lane[1]) + (lane[2] + lane[3]);
      for (size_t i = whole; i < other.size(); ++i) result[member] += rows_[member][i] * other[i];
    }
    return result;
  }

 private:
  const std::span<const std::vector<float>* const> members_;
  std::array<std::array<double, kChunk>, kGroup> rows_;
};

class Accumulation {
 public:
  Accumulation(const VectorSource& source, const Stopping& stopping)
      : source_(source), stopping_(stopping), count_(static_cast<size_t>(source.count)) {
    gram_.count = source.count;
    gram_.products.resize(count_ * count_);
  }

  absl::StatusOr<Gram> Run(size_t most_held) {
    for (size_t begin = 0, end = 0; begin < count_; begin = end) {
      end = std::min(count_, begin + most_held);
      std::vector<std::vector<float>> held;
      for (size_t i = begin; i < end; ++i) {
        DS_RETURN_IF_ERROR(CheckStopping(stopping_));
        DS_ASSIGN_OR_RETURN(held.emplace_back(), Read(i));
      }
      for (size_t first = begin, last = 0; first < count_; first = last) {
        DS_RETURN_IF_ERROR(CheckStopping(stopping_));
        last = std::min(first + kGroup, first < end ? end : count_);
        std::vector<std::vector<float>> read;
        std::vector<const std::vector<float>*> members;
        if (first >= end) {
          for (size_t i = first; i < last; ++i) {
            DS_ASSIGN_OR_RETURN(read.emplace_back(), Read(i));
          }
        }
        for (size_t i = first; i < last; ++i) {
          members.push_back(first < end ? &held[i - begin] : &read[i - first]);
        }
        Multiply(first, members, begin, std::span(held).first(std::min(end, last) - begin));
      }
    }
    for (size_t i = 0; i < count_; ++i) {
      for (size_t j = 0; j < i; ++j) {
        gram_.products[j * count_ + i] = gram_.products[i * count_ + j];
      }
    }
    return std::move(gram_);
  }

 private:
  absl::StatusOr<std::vector<float>> Read(size_t index) {
    DS_ASSIGN_OR_RETURN(std::vector<float> vector, source_.at(static_cast<int>(index)));
    if (vector.size() == source_.elements) return vector;
    return absl::InternalError(absl::StrCat("vector ", index, ": expected ", source_.elements,
                                            " elements, found ", vector.size()));
  }

  // Rows from `first` on, columns from `begin` on.
  void Multiply(size_t first, std::span<const std::vector<float>* const> members, size_t begin,
                std::span<const std::vector<float>> held) {
    Group group(members);
    for (size_t at = 0; at < source_.elements; at += kChunk) {
      group.Load(at);
      const size_t length = std::min(kChunk, source_.elements - at);
      for (size_t i = 0; i < held.size(); ++i) {
        const Sums sums = group.Products(std::span(held[i]).subspan(at, length));
        for (size_t member = 0; member < members.size(); ++member) {
          gram_.products[(first + member) * count_ + begin + i] += sums[member];
        }
      }
    }
  }

  const VectorSource& source_;
  const Stopping& stopping_;
  const size_t count_;
  Gram gram_;
};

}  // namespace

std::vector<float> MatricesWithoutGauge(const State& state, std::span<const int> layers) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  const size_t n = static_cast<size_t>(state.shape.head_size);
  std::vector<float> result;
  result.reserve(layers.size() * static_cast<size_t>(state.shape.heads) * n * n);
  std::vector<double> mean(n);
  for (const int layer : layers) {
    for (int head = 0; head < state.shape.heads; ++head) {
      const std::span<const float> matrix = HeadOf(state, layer, head);
      std::fill(mean.begin(), mean.end(), 0.0);
      for (size_t value = 0; value < n; ++value) {
        for (size_t key = 0; key < n; ++key) mean[key] += matrix[value * n + key];
      }
      for (double& sum : mean) sum /= static_cast<double>(n);
      for (size_t value = 0; value < n; ++value) {
        for (size_t key = 0; key < n; ++key) {
          result.push_back(static_cast<float>(
              std::clamp(matrix[value * n + key] - mean[key], -kLargest, kLargest)));
        }
      }
    }
  }
  return result;
}

absl::StatusOr<Gram> GramOf(const VectorSource& source, int64_t held_bytes,
                            const Stopping& stopping) {
  const auto fit =
      static_cast<size_t>(std::max<int64_t>(held_bytes, 0)) / (source.elements * sizeof(float));
  return Accumulation(source, stopping).Run(std::max<size_t>(fit, 1));
}

}  // namespace dreamstate::state
