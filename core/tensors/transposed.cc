#include "core/tensors/transposed.h"

#include <cstring>

namespace dreamstate::tensors {

std::vector<std::byte> Transposed(const Tensor& matrix) {
  std::vector<std::byte> out(matrix.data.size());
  if (out.empty()) return out;
  const auto rows = static_cast<size_t>(matrix.shape[0]);
  const auto columns = static_cast<size_t>(matrix.shape[1]);
  const size_t element = DTypeBytes(matrix.dtype);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column) {
      std::memcpy(out.data() + (column * rows + row) * element,
                  matrix.data.data() + (row * columns + column) * element, element);
    }
  }
  return out;
}

}  // namespace dreamstate::tensors
