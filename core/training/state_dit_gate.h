// Gives a trained state DiT its safety gate (core/diffusion/safety.h). No torch here.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"
#include "core/training/state_dataset.h"

namespace dreamstate::training {

// The state DiT `set` with tensors safety.* in place of those that it may have, fitted on at most
// `most_states` validation states of trained labels, taken evenly from all. With fewer than 50 such
// states it gets none: then a gate says nothing. Errors of StateGenerator::Load and of the data
// set.
absl::StatusOr<tensors::TensorSet> WithSafetyGate(const tensors::TensorSet& set,
                                                  const StateDataset& dataset,
                                                  int most_states = 1000);

}  // namespace dreamstate::training
