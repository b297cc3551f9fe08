// What the states of texts look like, head by head (design: science.md, table C3): how large they
// are, how near to one direction, to one another and to the gauge, and what of their label a single
// head shows. Pure functions of the states; no torch type is shown.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/chosen_states.h"
#include "core/evaluation/progress.h"
#include "core/evaluation/table.h"
#include "nlohmann/json.hpp"

namespace dreamstate::evaluation {

// A head's matrix S is [N value][N key]; P S is S without its gauge, the mean of each column (spec
// section 3.1). All are 0 for a head that is zero in every state, but for its purity.
struct HeadStatistics {
  double rms = 0;             // of all entries of all states
  double norm_variation = 0;  // standard deviation of the Frobenius norm over states, over its mean
  double spectral_norm = 0;   // mean over states
  double stable_rank = 0;     // mean over states of (Frobenius norm / spectral norm)^2
  double first_energy = 0;    // mean over states of the first singular value's share of the energy
  double gauge_energy = 0;    // share of the gauge in E|S|^2
  double mean_energy = 0;     // share of the states' mean in E|P S|^2
  double kurtosis = 0;        // of all entries of all states; 3 for a normal distribution
  // Share of a state's nearest others, by the distance of this head's P S alone, that have its
  // label. Others that are as near as the last of them count in part.
  double purity = 0;
};

struct StateStatistics {
  state::Shape shape;
  int64_t states = 0;
  int labels = 0;                     // that the states have
  int neighbours = 0;                 // that purity looks at: 10, or all others when they are fewer
  double purity = 0;                  // by all heads together, each divided by its root mean square
  double chance = 0;                  // purity of labels that have nothing to do with the states
  std::vector<HeadStatistics> heads;  // [L][H]

  const HeadStatistics& At(int layer, int head) const { return heads[layer * shape.heads + head]; }
};

// INVALID_ARGUMENT for fewer than two states. `progress` counts heads. Memory: two numbers for each
// pair of states.
absl::StatusOr<StateStatistics> StatisticsOf(const ChosenStates& states,
                                             const StageProgress& progress = {});

Table StateStatisticsTable(const StateStatistics& statistics, const StateChoice& choice);
nlohmann::ordered_json StateStatisticsJson(const StateStatistics& statistics,
                                           const StateChoice& choice);

}  // namespace dreamstate::evaluation
