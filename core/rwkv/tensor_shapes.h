// The tensors that a backbone of a given Config consists of: names and shapes of official
// checkpoints (spec: checkpoint tensors), vectors without their size-1 dimensions.
#pragma once

#include <string>
#include <vector>

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

}  // namespace dreamstate::rwkv
