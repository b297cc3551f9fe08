// Any bytes as an rwkv.cpp file: refused, or a set of tensors that weights can be asked of.
#include <cstdint>
#include <span>

#include "core/rwkv/weights.h"
#include "core/tensors/import.h"

namespace dreamstate::tensors {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const absl::StatusOr<TensorSet> set = ParseGgmf("fuzz", bytes, nullptr);
  if (set.ok()) (void)rwkv::Weights::Load(*set, rwkv::WeightFormat::kFloat32);
  return 0;
}

}  // namespace dreamstate::tensors
