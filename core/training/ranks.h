// The place of this process among those that train together, as torchrun's environment says it. No
// torch here.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace dreamstate::training {

struct Ranks {
  int rank = 0;        // of all
  int size = 1;        // how many there are
  int local_rank = 0;  // of those on this machine: which of its GPUs is ours
  // Where rank 0 listens.
  std::string address;
  int port = 0;

  bool alone() const { return size == 1; }
};

// From RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; one rank when neither RANK nor
// WORLD_SIZE is set. INVALID_ARGUMENT naming the variable that is missing or wrong.
absl::StatusOr<Ranks> RanksFromEnvironment();

}  // namespace dreamstate::training
