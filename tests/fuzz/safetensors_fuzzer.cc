// Any bytes as a safetensors file: refused, or tensors that lie inside the bytes and can be written
// and read again.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/rwkv/weights.h"
#include "core/tensors/peer_names.h"
#include "core/tensors/safetensors.h"

namespace dreamstate::tensors {

static void Check(bool held) {
  if (!held) std::abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const absl::StatusOr<TensorSet> set = ParseSafetensors("fuzz", bytes, nullptr);
  if (!set.ok()) return 0;
  for (const Tensor& tensor : set->tensors()) {
    Check(tensor.data.empty() || (tensor.data.data() >= bytes.data() &&
                                  tensor.data.data() + tensor.data.size() <= bytes.data() + size));
    std::vector<float> values(tensor.elements());
    (void)ToFloat(tensor, values);
  }
  const absl::StatusOr<std::string> again = SerializeSafetensors(set->tensors(), set->metadata());
  if (again.ok()) {
    const absl::StatusOr<TensorSet> read =
        ParseSafetensors("again", std::as_bytes(std::span<const char>(*again)), nullptr);
    Check(read.ok() && Fingerprint(*read) == Fingerprint(*set));
  }
  (void)OfficialNames(*set);
  (void)rwkv::Weights::Load(*set, rwkv::WeightFormat::kFloat32);
  return 0;
}

}  // namespace dreamstate::tensors
