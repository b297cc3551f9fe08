// Inner products of many states, each taken as one vector of its matrices: all that a map of states
// needs to know of them. Pure functions; whoever calls may read the vectors from wherever they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/stopping.h"
#include "core/state/state.h"

namespace dreamstate::state {

// The matrices of the layers named, one after another, each without its gauge: minus its mean over
// the value axis, which no output depends on. Finite for every finite state. [layers][H][N][N]
std::vector<float> MatricesWithoutGauge(const State& state, std::span<const int> layers);

// Vectors of one length that are read one at a time.
struct VectorSource {
  int count = 0;        // >= 1
  size_t elements = 0;  // of each, >= 1
  // Vector `index`; the same each time. Its errors end the work.
  std::function<absl::StatusOr<std::vector<float>>(int index)> at;
};

// Every vector with every other, summed in double precision. Equal vectors have equal products, to
// the bit.
struct Gram {
  int count = 0;
  std::vector<double> products;  // [count][count], symmetric

  double At(int i, int j) const {
    return products[static_cast<size_t>(i) * static_cast<size_t>(count) + static_cast<size_t>(j)];
  }
};

// As many vectors are held as fit `held_bytes` (but at least one, and four more); each is read at
// most once for every so many vectors. INTERNAL when a vector has another length than it should;
// CANCELLED when stopped.
absl::StatusOr<Gram> GramOf(const VectorSource& source, int64_t held_bytes,
                            const Stopping& stopping);

}  // namespace dreamstate::state
