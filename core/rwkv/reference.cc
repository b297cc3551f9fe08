#include "core/rwkv/reference.h"

#include <algorithm>
#include <cmath>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/tensor_shapes.h"
#include "kernels/activation/activation_reference.h"
#include "kernels/norm/norm_reference.h"
#include "kernels/token_shift/token_shift_reference.h"
#include "kernels/wkv7/wkv7_reference.h"

namespace dreamstate::rwkv {
namespace {

using Row = std::vector<double>;

// y = W x with W [outputs][inputs].
Row Product(const double* w, const Row& x, int outputs) {
  Row y(outputs, 0.0);
  for (int out = 0; out < outputs; ++out) {
    for (size_t in = 0; in < x.size(); ++in) y[out] += w[out * x.size() + in] * x[in];
  }
  return y;
}

// y = x M with M [inputs][outputs].
Row RowProduct(const Row& x, const double* m, int outputs) {
  Row y(outputs, 0.0);
  for (size_t in = 0; in < x.size(); ++in) {
    for (int out = 0; out < outputs; ++out) y[out] += x[in] * m[in * outputs + out];
  }
  return y;
}

Row Shifted(const Row& z, const double* carried, const double* mix) {
  Row out(z.size());
  kernels::TokenShiftReference(carried, z.data(), mix, 1, static_cast<int>(z.size()), out.data());
  return out;
}

Row LayerNorm(const Row& x, const double* weight, const double* bias) {
  Row y(x.size());
  kernels::LayerNormReference(x.data(), weight, bias, 1e-5, 1, static_cast<int>(x.size()),
                              y.data());
  return y;
}

// Heads of [rows][columns] transposed in place.
void TransposeHeads(double* matrix, int heads, int size) {
  for (int head = 0; head < heads; ++head, matrix += size * size) {
    for (int row = 0; row < size; ++row) {
      for (int column = 0; column < row; ++column)
        std::swap(matrix[row * size + column], matrix[column * size + row]);
    }
  }
}

}  // namespace

absl::StatusOr<ReferenceEngine> ReferenceEngine::Load(const tensors::TensorSet& set) {
  ReferenceEngine engine;
  DS_ASSIGN_OR_RETURN(engine.config_, Config::FromTensors(set));
  for (const TensorShape& entry : ExpectedTensors(engine.config_)) {
    const tensors::Tensor* tensor = set.Find(entry.name);
    if (tensor == nullptr || Squeezed(tensor->shape, entry.shape.size()) != entry.shape) {
      return absl::InvalidArgumentError(
          StrCat(entry.name, ": expected ", tensors::ShapeString(entry.shape), ", found ",
                 tensor == nullptr ? "none" : tensors::ShapeString(tensor->shape), " (",
                 set.source(), ")"));
    }
    std::vector<float> values(tensor->elements());
    DS_RETURN_IF_ERROR(tensors::ToFloat(*tensor, values));
    engine.tensors_[entry.name].assign(values.begin(), values.end());
  }
  return engine;
}

std::vector<double> ReferenceEngine::Forward(std::span<const int32_t> tokens,
                                             std::span<double> shift, std::span<double> wkv) const {
  const int width = config_.width;
  std::vector<double> logits;
  logits.reserve(tokens.size() * config_.vocab);
  for (const int32_t token : tokens) {
    const double* embedding = At("emb.weight") + int64_t{token} * width;
    Row x = LayerNorm(Row(embedding, embedding + width), At("blocks.0.ln0.weight"),
                      At("blocks.0.ln0.bias"));
    Row v_first;
    for (int layer = 0; layer < config_.layers; ++layer) {
      double* layer_shift = shift.data() + int64_t{layer} * 2 * width;
      TimeMix(layer, x, v_first, layer_shift,
              wkv.data() + int64_t{layer} * width * config_.head_size);
      ChannelMix(layer, x, layer_shift + width);
    }
    const Row row = Product(At("head.weight"), LayerNorm(x, At("ln_out.weight"), At("ln_out.bias")),
                            config_.vocab);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

void ReferenceEngine::TimeMix(int layer, Row& x, Row& v_first, double* shift, double* wkv) const {
  const std::string block = StrCat("blocks.", layer, ".");
  const std::string att = block + "att.";
  const int width = config_.width;
  const Row z = LayerNorm(x, At(block + "ln1.weight"), At(block + "ln1.bias"));
  const auto mixed = [&](const char* mix) { return Shifted(z, shift, At(att + mix)); };
  const Row x_w = mixed("x_w");
  const Row x_v = mixed("x_v");
  const Row r = Product(At(att + "receptance.weight"), mixed("x_r"), width);
  Row k = Product(At(att + "key.weight"), mixed("x_k"), width);
  Row v = Product(At(att + "value.weight"), x_v, width);
  Row rank_w = RowProduct(x_w, At(att + "w1"), config_.rank_decay);
  for (double& value : rank_w) value = std::tanh(value);
  Row w = RowProduct(rank_w, At(att + "w2"), width);
  Row a = RowProduct(RowProduct(mixed("x_a"), At(att + "a1"), config_.rank_iclr), At(att + "a2"),
                     width);
  Row rank_g = RowProduct(mixed("x_g"), At(att + "g1"), config_.rank_gate);
  for (double& value : rank_g) value = kernels::SigmoidReference(value);
  const Row g = RowProduct(rank_g, At(att + "g2"), width);
  Row v_mix;
  if (layer == 0) {
    v_first = v;
  } else {
    v_mix = RowProduct(RowProduct(x_v, At(att + "v1"), config_.rank_value), At(att + "v2"), width);
  }
  Row kk(width);
  kernels::TimeMixGatesReference(config_.heads, config_.head_size, At(att + "w0"), At(att + "a0"),
                                 layer == 0 ? nullptr : At(att + "v0"), At(att + "k_k"),
                                 At(att + "k_a"), w.data(), a.data(), v_mix.data(), v_first.data(),
                                 k.data(), v.data(), kk.data(), 1);
  Row y(width);
  TransposeHeads(wkv, config_.heads, config_.head_size);
  kernels::Wkv7Reference(config_.heads, config_.head_size, 1, wkv, r.data(), w.data(), k.data(),
                         v.data(), a.data(), kk.data(), y.data());
  TransposeHeads(wkv, config_.heads, config_.head_size);
  kernels::GroupNormBonusGateReference(
      config_.heads, config_.head_size, 64e-5, At(att + "ln_x.weight"), At(att + "ln_x.bias"),
      At(att + "r_k"), y.data(), r.data(), k.data(), v.data(), g.data(), 1, y.data());
  const Row out = Product(At(att + "output.weight"), y, width);
  for (int i = 0; i < width; ++i) x[i] += out[i];
  std::copy(z.begin(), z.end(), shift);
}

void ReferenceEngine::ChannelMix(int layer, Row& x, double* shift) const {
  const std::string block = StrCat("blocks.", layer, ".");
  const Row z = LayerNorm(x, At(block + "ln2.weight"), At(block + "ln2.bias"));
  Row hidden = Product(At(block + "ffn.key.weight"), Shifted(z, shift, At(block + "ffn.x_k")),
                       config_.ffn_width);
  for (double& value : hidden) value = value > 0 ? value * value : 0;
  const Row out = Product(At(block + "ffn.value.weight"), hidden, config_.width);
  for (int i = 0; i < config_.width; ++i) x[i] += out[i];
  std::copy(z.begin(), z.end(), shift);
}

}  // namespace dreamstate::rwkv
