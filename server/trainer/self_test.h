// What a bundle's self-test must give, computed by the engine that will serve it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::trainer {

// Runs `tokens` (2 to 4096, in the vocabulary) from the empty state in every weight format. The
// fp32 loss is what is expected; the tolerance of fp32 covers other instruction sets, that of
// another format also covers its distance from fp32. INVALID_ARGUMENT for tensors that are no
// backbone, or a loss that is not finite.
absl::StatusOr<repository::SelfTest> MakeSelfTest(const tensors::TensorSet& backbone,
                                                  std::vector<int32_t> tokens);

}  // namespace dreamstate::trainer
