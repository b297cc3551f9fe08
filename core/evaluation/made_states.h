// States that no text leaves: averages, other shift vectors, shuffled entries. All of the same
// shape; what predicts the next token after them is not known.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/draws.h"
#include "core/evaluation/reader.h"

namespace dreamstate::evaluation {

// A running mean of states, in double precision.
class MeanState {
 public:
  explicit MeanState(const state::Shape& shape);
  void Add(const state::State& state);
  int64_t count() const { return count_; }
  // At least one was added.
  Harvested Mean() const;

 private:
  state::Shape shape_;
  std::vector<double> shift_, wkv_;
  int64_t count_ = 0;
};

// The same matrices with another state's shift vectors.
Harvested WithShift(const state::State& state, std::span<const float> shift);

// Every head's matrix and every shift vector with its entries in random order: of the same size and
// distribution, and no state of anything.
Harvested Shuffled(const state::State& state, Draws& draws);

}  // namespace dreamstate::evaluation
