#include "core/rwkv/tensor_shapes.h"

#include <set>
#include <string_view>

#include "core/base/strings.h"

namespace dreamstate::rwkv {
namespace {

absl::Status ShapeError(const tensors::TensorSet& set, const TensorShape& expected,
                        std::string_view found) {
  return absl::InvalidArgumentError(StrCat(expected.name, ": expected ",
                                           tensors::ShapeString(expected.shape), ", found ", found,
                                           " (", set.source(), ")"));
}

}  // namespace

std::vector<TensorShape> ExpectedTensors(const Config& config) {
  const int64_t width = config.width;
  std::vector<TensorShape> expected;
  const auto add = [&](std::string name, tensors::Shape shape) {
    expected.push_back({std::move(name), std::move(shape)});
  };
  const auto add_layer_norm = [&](const std::string& name) {
    add(name + ".weight", {width});
    add(name + ".bias", {width});
  };
  add("emb.weight", {config.vocab, width});
  for (int layer = 0; layer < config.layers; ++layer) {
    const std::string block = StrCat("blocks.", layer, ".");
    if (layer == 0) add_layer_norm(block + "ln0");
    add_layer_norm(block + "ln1");
    add_layer_norm(block + "ln2");
    for (const char* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "k_k", "k_a"}) {
      add(StrCat(block, "att.", name), {width});
    }
    const struct {
      const char* letter;
      int64_t rank;
    } low_rank[] = {{"w", config.rank_decay},
                    {"a", config.rank_iclr},
                    {"v", config.rank_value},
                    {"g", config.rank_gate}};
    for (const auto& [letter, rank] : low_rank) {
      if (layer == 0 && *letter == 'v') continue;
      add(StrCat(block, "att.", letter, "1"), {width, rank});
      add(StrCat(block, "att.", letter, "2"), {rank, width});
    }
    if (layer > 0) add(block + "att.v0", {width});
    add(block + "att.r_k", {config.heads, config.head_size});
    for (const char* name : {"receptance", "key", "value", "output"})
      add(StrCat(block, "att.", name, ".weight"), {width, width});
    add_layer_norm(block + "att.ln_x");
    add(block + "ffn.x_k", {width});
    add(block + "ffn.key.weight", {config.ffn_width, width});
    add(block + "ffn.value.weight", {width, config.ffn_width});
  }
  add_layer_norm("ln_out");
  add("head.weight", {config.vocab, width});
  return expected;
}

tensors::Shape Squeezed(const tensors::Shape& shape, size_t rank) {
  size_t drop = 0;
  while (shape.size() - drop > rank && shape[drop] == 1) ++drop;
  return tensors::Shape(shape.begin() + drop, shape.end());
}

absl::Status CheckTensors(const tensors::TensorSet& set, const Config& config) {
  std::set<std::string_view> known = {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"};
  const std::vector<TensorShape> expected = ExpectedTensors(config);
  for (const TensorShape& entry : expected) {
    const tensors::Tensor* tensor = set.Find(entry.name);
    if (tensor == nullptr) return ShapeError(set, entry, "none");
    if (Squeezed(tensor->shape, entry.shape.size()) != entry.shape) {
      return ShapeError(
          set, entry,
          StrCat(tensors::DTypeName(tensor->dtype), " ", tensors::ShapeString(tensor->shape)));
    }
    known.insert(entry.name);
  }
  for (const tensors::Tensor& tensor : set.tensors()) {
    if (!known.contains(tensor.name)) {
      return absl::InvalidArgumentError(
          StrCat(tensor.name, ": expected no such tensor in RWKV-7, found ",
                 tensors::DTypeName(tensor.dtype), " ", tensors::ShapeString(tensor.shape), " (",
                 set.source(), ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::rwkv
