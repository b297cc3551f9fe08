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
  for (Tensor tensor : set.tensors()) {
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
