// States of a data set (core/training/state_dataset.h) in memory, to be described: those after the
// separator of one split at one position, so that a document gives one. Seeded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/state.h"
#include "core/training/state_dataset.h"

namespace dreamstate::evaluation {

struct StateChoice {
  training::Split split = training::Split::kValid;
  int position = 512;  // tokens that a state has read; one of the data set's
  int most = 1000;     // states; more are drawn from
  uint64_t seed = 0;
};

struct ChosenStates {
  state::Shape shape;
  std::vector<int32_t> labels;  // [n], indices into the data set's
  std::vector<float> wkv;       // [n][L][H][N value][N key], finite

  size_t size() const { return labels.size(); }
  std::span<const float> Head(size_t index, int layer, int head) const;  // [N value][N key]
};

// States of trained labels only, shard by shard. INVALID_ARGUMENT for a position that the data set
// has none of or a shard with values that are not finite; FAILED_PRECONDITION when shards are
// missing or no state is left; errors of StateDataset.
absl::StatusOr<ChosenStates> ChooseStates(const training::StateDataset& dataset,
                                          const StateChoice& choice);

}  // namespace dreamstate::evaluation
