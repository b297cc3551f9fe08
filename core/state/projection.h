// Maps of states: two numbers for each, from their inner products. Both methods are deterministic
// and give finite numbers for whatever vectors, also for ones that are all the same.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/stopping.h"
#include "core/state/gram.h"

namespace dreamstate::state {

struct Point {
  double x = 0, y = 0;
};

struct PrincipalComponents {
  std::vector<Point> points;     // [count], their mean at the origin, in the vectors' units
  double explained[2] = {0, 0};  // shares of the variance; 0 where there is none
};

// The two directions of largest variance, exact to rounding (where further directions hold as much
// as the second to a millionth or so, any of them). Of each direction the coordinate that is
// furthest from the origin is positive. INVALID_ARGUMENT for fewer than 3 vectors, CANCELLED when
// stopped.
absl::StatusOr<PrincipalComponents> PrincipalComponentsOf(const Gram& gram,
                                                          const Stopping& stopping);

struct TsneOptions {
  double perplexity = 30;  // neighbours that count, in [1, count - 1]
  uint64_t seed = 0;       // of where the points begin
  int iterations = 750;
};

// Exact t-SNE (van der Maaten and Hinton, 2008) on Euclidean distances: neighbours stay together,
// distances between groups mean little. The mean is at the origin. `stopping` is asked in every
// iteration. INVALID_ARGUMENT for fewer than 3 vectors or a perplexity out of range.
absl::StatusOr<std::vector<Point>> TsneOf(const Gram& gram, const TsneOptions& options,
                                          const Stopping& stopping);

}  // namespace dreamstate::state
