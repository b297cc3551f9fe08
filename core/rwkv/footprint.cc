#include "core/rwkv/footprint.h"

#include <algorithm>

#include "kernels/gemm/gemm.h"

namespace dreamstate::rwkv {

int64_t EstimateLoadBytes(const tensors::TensorSet& set, WeightFormat format) {
  // No other format takes more than bf16.
  const int64_t element_bytes = format == WeightFormat::kFloat32 ? 4 : 2;
  int64_t packed = 0, largest = 0;
  for (const tensors::Tensor& tensor : set.tensors()) {
    const int64_t elements = tensor.elements();
    const int64_t fp32_bytes = elements * static_cast<int64_t>(sizeof(float));
    largest = std::max(largest, fp32_bytes);
    const tensors::Shape& shape = tensor.shape;
    if (std::count_if(shape.begin(), shape.end(), [](int64_t size) { return size > 1; }) < 2) {
      packed += fp32_bytes;  // vectors stay fp32
      continue;
    }
    // Outputs are rounded up to whole panels, inputs to pairs.
    const int64_t longest = *std::max_element(shape.begin(), shape.end());
    packed += (elements + (longest + 1) * (kernels::PackedMatrix::kPanel + 1)) * element_bytes;
  }
  return packed + largest;
}

int64_t EstimateRunBytes(const tensors::TensorSet& set, WeightFormat format) {
  constexpr int64_t kLeastBytes = 32 << 20;
  const int64_t load = EstimateLoadBytes(set, format);
  return load + std::max(load / 16, kLeastBytes);
}

}  // namespace dreamstate::rwkv
