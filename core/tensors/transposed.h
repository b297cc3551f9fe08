// Matrices that another engine stores the other way round.
#pragma once

#include <cstddef>
#include <vector>

#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// The data of a matrix [rows][columns] as [columns][rows]; any dtype and size.
std::vector<std::byte> Transposed(const Tensor& matrix);

}  // namespace dreamstate::tensors
