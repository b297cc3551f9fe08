// A state DiT with random weights for a backbone of any sizes, as the component's tensor set. No
// torch type is shown.
#pragma once

#include <cstdint>

#include "core/rwkv/config.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::testing {

struct RandomStateDitOptions {
  int labels = 3;
  int taps = 1;
  bool gate = false;  // fitted on the random states that the codec is
  uint64_t seed = 1;
};
tensors::TensorSet RandomStateDit(const rwkv::Config& config,
                                  const RandomStateDitOptions& options = {});

}  // namespace dreamstate::testing
