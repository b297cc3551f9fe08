// What each rank computes of a global batch: rows rank, rank + size, ... No torch here.
#pragma once

#include <vector>

#include "core/training/batch.h"
#include "core/training/ranks.h"

namespace dreamstate::training {

inline bool IsOurs(int row, const Ranks& ranks) { return row % ranks.size == ranks.rank; }

struct RankShare {
  Batch batch;            // its rows alone; maybe none
  std::vector<int> rows;  // where they are in the global batch
};
RankShare ShareOf(const Batch& batch, const Ranks& ranks);

}  // namespace dreamstate::training
