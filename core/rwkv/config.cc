#include "core/rwkv/config.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/tensor_shapes.h"

namespace dreamstate::rwkv {
namespace {

// A size beyond this is a mistake or an attack; real models stay far below.
constexpr int64_t kMaxSize = int64_t{1} << 24;

absl::StatusOr<tensors::Shape> ShapeOf(const tensors::TensorSet& set, std::string_view name,
                                       size_t rank) {
  const tensors::Tensor* tensor = set.Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(
        StrCat(name, ": expected a tensor of rank ", rank, ", found none (", set.source(), ")"));
  }
  tensors::Shape shape = Squeezed(tensor->shape, rank);
  const bool sizes_fit = std::all_of(shape.begin(), shape.end(),
                                     [](int64_t size) { return size >= 1 && size <= kMaxSize; });
  if (shape.size() != rank || !sizes_fit) {
    return absl::InvalidArgumentError(
        StrCat(name, ": expected rank ", rank, " with sizes from 1 to ", kMaxSize, ", found ",
               tensors::DTypeName(tensor->dtype), " ", tensors::ShapeString(tensor->shape), " (",
               set.source(), ")"));
  }
  return shape;
}

// Layers = the number of blocks, which must be numbered without a hole.
absl::StatusOr<int> CountLayers(const tensors::TensorSet& set) {
  int64_t highest = -1;
  int64_t blocks = 0;
  for (const tensors::Tensor& tensor : set.tensors()) {
    constexpr std::string_view kPrefix = "blocks.";
    std::string_view name = tensor.name;
    if (!name.starts_with(kPrefix)) continue;
    name.remove_prefix(kPrefix.size());
    const std::string_view number = name.substr(0, name.find('.'));
    int64_t index = -1;
    if (!absl::SimpleAtoi(AbslView(number), &index) || index < 0) {
      return absl::InvalidArgumentError(StrCat(tensor.name,
                                               ": expected blocks.<number>.…, found block \"",
                                               number, "\" (", set.source(), ")"));
    }
    highest = std::max(highest, index);
    if (name.ends_with(".att.r_k")) ++blocks;
  }
  if (highest < 0) {
    return absl::InvalidArgumentError(
        StrCat("blocks.0.att.r_k: expected at least one block, found none (", set.source(), ")"));
  }
  if (blocks != highest + 1) {
    return absl::InvalidArgumentError(StrCat("blocks.*.att.r_k: expected ", highest + 1,
                                             " tensors (the highest block is ", highest,
                                             "), found ", blocks, " (", set.source(), ")"));
  }
  return static_cast<int>(blocks);
}

}  // namespace

absl::StatusOr<Config> Config::FromTensors(const tensors::TensorSet& set) {
  Config config;
  DS_ASSIGN_OR_RETURN(const tensors::Shape embedding, ShapeOf(set, "emb.weight", 2));
  config.vocab = static_cast<int>(embedding[0]);
  config.width = static_cast<int>(embedding[1]);
  DS_ASSIGN_OR_RETURN(config.layers, CountLayers(set));
  DS_ASSIGN_OR_RETURN(const tensors::Shape r_k, ShapeOf(set, "blocks.0.att.r_k", 2));
  config.heads = static_cast<int>(r_k[0]);
  config.head_size = static_cast<int>(r_k[1]);
  if (int64_t{config.heads} * config.head_size != config.width || config.head_size % 16 != 0 ||
      config.head_size > 256) {
    return absl::InvalidArgumentError(StrCat(
        "blocks.0.att.r_k: expected [heads, head size] with heads * head size = ", config.width,
        " and a head size that is a multiple of 16 up to 256, found ", tensors::ShapeString(r_k),
        " (", set.source(), ")"));
  }
  DS_ASSIGN_OR_RETURN(const tensors::Shape ffn, ShapeOf(set, "blocks.0.ffn.key.weight", 2));
  config.ffn_width = static_cast<int>(ffn[0]);
  const struct {
    const char* name;
    int* rank;
    bool present;
  } ranks[] = {{"blocks.0.att.w1", &config.rank_decay, true},
               {"blocks.0.att.a1", &config.rank_iclr, true},
               {"blocks.1.att.v1", &config.rank_value, config.layers > 1},
               {"blocks.0.att.g1", &config.rank_gate, true}};
  for (const auto& [name, rank, present] : ranks) {
    if (!present) continue;
    DS_ASSIGN_OR_RETURN(const tensors::Shape shape, ShapeOf(set, name, 2));
    *rank = static_cast<int>(shape[1]);
  }
  return config;
}

}  // namespace dreamstate::rwkv
