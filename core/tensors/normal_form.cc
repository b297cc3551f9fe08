#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/tensors/import.h"

namespace dreamstate::tensors {
namespace {

// Stored as [1, 1, D] by official checkpoints and [D] by others.
constexpr std::array<std::string_view, 12> kVectors = {"att.x_r", "att.x_w", "att.x_k", "att.x_v",
                                                       "att.x_a", "att.x_g", "att.w0",  "att.a0",
                                                       "att.v0",  "att.k_k", "att.k_a", "ffn.x_k"};

// Layer 0 makes the value that later layers mix in; checkpoints carry these for it all the same.
constexpr std::array<std::string_view, 3> kUnread = {"blocks.0.att.v0", "blocks.0.att.v1",
                                                     "blocks.0.att.v2"};

// What trainers put before every name: Lightning with DeepSpeed, RWKV-PEFT.
constexpr std::array<std::string_view, 2> kPrefixes = {"_forward_module.", "model."};

// The bytes of prefixes that all names have.
size_t CommonPrefixBytes(const TensorSet& set) {
  size_t bytes = 0;
  for (const std::string_view prefix : kPrefixes) {
    const bool everywhere =
        !set.tensors().empty() &&
        std::all_of(set.tensors().begin(), set.tensors().end(), [&](const Tensor& tensor) {
          return std::string_view(tensor.name).substr(bytes).starts_with(prefix);
        });
    if (everywhere) bytes += prefix.size();
  }
  return bytes;
}

bool IsVector(std::string_view name) {
  return std::any_of(kVectors.begin(), kVectors.end(), [name](std::string_view vector) {
    return name.size() > vector.size() && name.ends_with(vector) &&
           name[name.size() - vector.size() - 1] == '.';
  });
}

}  // namespace

absl::StatusOr<TensorSet> NormalForm(const TensorSet& set) {
  std::vector<Tensor> tensors;
  tensors.reserve(set.tensors().size());
  const size_t prefix = CommonPrefixBytes(set);
  for (Tensor tensor : set.tensors()) {
    tensor.name.erase(0, prefix);
    if (std::find(kUnread.begin(), kUnread.end(), tensor.name) != kUnread.end()) continue;
    if (IsVector(tensor.name) && tensor.shape.size() > 1) {
      std::erase(tensor.shape, 1);
      if (tensor.shape.empty()) tensor.shape.push_back(1);
    }
    tensors.push_back(std::move(tensor));
  }
  // Keeps alive what `set` keeps alive.
  return TensorSet::Make(set.source(), std::move(tensors), set.metadata(),
                         std::make_shared<const TensorSet>(set));
}

}  // namespace dreamstate::tensors
