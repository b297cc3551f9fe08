#include <array>

#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {
namespace {

void HashNumber(Sha256* hash, uint64_t value) {
  std::array<std::byte, sizeof(value)> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
  hash->Update(bytes);
}

// With its length before it, so that no two sets of tensors give the same bytes.
void HashText(Sha256* hash, std::string_view text) {
  HashNumber(hash, text.size());
  hash->Update(text);
}

}  // namespace

std::string Fingerprint(const TensorSet& set) { return *Fingerprint(set, Stopping()); }

absl::StatusOr<std::string> Fingerprint(const TensorSet& set, const Stopping& stopping) {
  Sha256 hash;
  HashNumber(&hash, set.tensors().size());
  for (const Tensor& tensor : set.tensors()) {
    DS_RETURN_IF_ERROR(CheckStopping(stopping));
    HashText(&hash, tensor.name);
    HashText(&hash, DTypeName(tensor.dtype));
    HashNumber(&hash, tensor.shape.size());
    for (const int64_t size : tensor.shape) HashNumber(&hash, static_cast<uint64_t>(size));
    HashNumber(&hash, tensor.data.size());
    hash.Update(tensor.data);
  }
  return hash.HexDigest();
}

}  // namespace dreamstate::tensors
