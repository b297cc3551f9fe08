#include "core/rwkv/footprint.h"

#include <algorithm>
#include <string_view>

#include "core/base/strings.h"
#include "kernels/gemm/gemm.h"

namespace dreamstate::rwkv {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// As PackedMatrix packs it (kernels/gemm/gemm.h).
int64_t PackedBytes(int64_t outputs, int64_t inputs, WeightFormat format) {
  const int64_t rows = RoundUp(outputs, kernels::PackedMatrix::kPanel);
  const auto slack = static_cast<int64_t>(kernels::PackedMatrix::kSlack);
  if (format == WeightFormat::kFloat32) return rows * inputs * 4 + slack;
  if (format == WeightFormat::kBfloat16) return rows * RoundUp(inputs, 2) * 2 + slack;
  const int64_t groups = RoundUp(inputs, kernels::kInt8Group) / kernels::kInt8Group;
  return rows * (RoundUp(inputs, 4) + groups * static_cast<int64_t>(sizeof(float))) + slack;
}

bool MayBeInt8(std::string_view name, const FormatPolicy& policy) {
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    const std::string suffix = StrCat(MatrixKindName(static_cast<MatrixKind>(kind)), ".weight");
    if (name.ends_with(suffix)) return policy.int8[static_cast<size_t>(kind)];
  }
  return false;
}

int64_t TensorBytes(const tensors::Tensor& tensor, WeightFormat format,
                    const FormatPolicy& policy) {
  const WeightFormat other = format == WeightFormat::kInt8 ? WeightFormat::kBfloat16 : format;
  const tensors::Shape& shape = tensor.shape;
  if (tensor.elements() == 0) return 0;  // its other sizes may be anything
  const bool is_weight = tensor.name.ends_with(".weight");
  if (tensor.name == "emb.weight") {
    return tensor.elements() * (other == WeightFormat::kFloat32 ? 4 : 2);
  }
  // Vectors stay fp32, and so does r_k, which has two dimensions.
  if (shape.size() != 2 || tensor.name.ends_with(".r_k")) {
    return tensor.elements() * static_cast<int64_t>(sizeof(float));
  }
  // Linear weights are [out, in], low-rank matrices [in, out].
  const int64_t outputs = shape[is_weight ? 0 : 1];
  const int64_t inputs = shape[is_weight ? 1 : 0];
  const bool int8 = format == WeightFormat::kInt8 && MayBeInt8(tensor.name, policy);
  return PackedBytes(outputs, inputs, int8 ? WeightFormat::kInt8 : other);
}

}  // namespace

int64_t EstimateLoadBytes(const tensors::TensorSet& set, WeightFormat format,
                          const FormatPolicy& policy) {
  int64_t packed = 0, largest = 0;
  for (const tensors::Tensor& tensor : set.tensors()) {
    packed += TensorBytes(tensor, format, policy);
    largest = std::max(largest, tensor.elements() * static_cast<int64_t>(sizeof(float)));
  }
  return packed + largest;
}

int64_t EstimateRunBytes(const tensors::TensorSet& set, WeightFormat format,
                         const FormatPolicy& policy) {
  constexpr int64_t kLeastBytes = 32 << 20;
  const int64_t load = EstimateLoadBytes(set, format, policy);
  return load + std::max(load / 16, kLeastBytes);
}

}  // namespace dreamstate::rwkv
