// The tensors that a backbone of a given Config consists of: names and shapes of official
// checkpoints (spec: checkpoint tensors), vectors without their size-1 dimensions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/rwkv/config.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::rwkv {

struct TensorShape {
  std::string name;
  tensors::Shape shape;
};

// In the order in which a checkpoint lists them.
std::vector<TensorShape> ExpectedTensors(const Config& config);

// `shape` without as many leading size-1 dimensions as it has beyond `rank`: [1, 1, D] is [D] where
// a vector is expected.
tensors::Shape Squeezed(const tensors::Shape& shape, size_t rank);

// That a backbone consists of exactly these, whatever their type; looks at no value.
// INVALID_ARGUMENT naming the tensor, what was expected and what was found.
absl::Status CheckTensors(const tensors::TensorSet& set, const Config& config);

}  // namespace dreamstate::rwkv
