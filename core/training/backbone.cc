#include "core/training/backbone.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/config.h"
#include "core/rwkv/tensor_shapes.h"
#include "core/training/optimiser.h"
#include "core/training/time_mix.h"
#include "core/training/wkv7.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;

constexpr double kLayerNormEps = 1e-5;

std::string Block(int layer) { return StrCat("blocks.", layer, "."); }

rwkv::Config ConfigOf(const BackboneSizes& sizes) {
  return {.layers = sizes.layers,
          .width = sizes.width,
          .heads = sizes.width / sizes.head_size,
          .head_size = sizes.head_size,
          .vocab = sizes.vocab,
          .ffn_width = sizes.ffn_width,
          .rank_decay = sizes.rank_decay,
          .rank_iclr = sizes.rank_iclr,
          .rank_value = sizes.rank_value,
          .rank_gate = sizes.rank_gate};
}

// How official checkpoints hold a tensor: vectors that no module owns as a weight or bias are
// [1][1][D].
std::vector<int64_t> OfficialShape(const rwkv::TensorShape& tensor) {
  if (tensor.shape.size() != 1 || tensor.name.ends_with(".weight") ||
      tensor.name.ends_with(".bias")) {
    return tensor.shape;
  }
  return {1, 1, tensor.shape[0]};
}

Tensor Linear(const Tensor& x, const Tensor& weight, torch::ScalarType products) {
  return torch::linear(x, weight.to(products));
}
Tensor LowRank(const Tensor& x, const Tensor& matrix, torch::ScalarType products) {
  return torch::matmul(x, matrix.to(products));
}

}  // namespace

absl::StatusOr<BackboneSizes> CompleteSizes(const BackboneSizes& sizes) {
  BackboneSizes complete = sizes;
  const auto wrong = [](std::string_view name, int found, std::string_view expected) {
    return absl::InvalidArgumentError(StrCat(name, ": expected ", expected, ", found ", found));
  };
  if (sizes.vocab < 2 || sizes.vocab > 65536) return wrong("vocab", sizes.vocab, "2 to 65536");
  if (sizes.layers < 1 || sizes.layers > 256) return wrong("layers", sizes.layers, "1 to 256");
  if (sizes.head_size < 16 || sizes.head_size > 128 || sizes.head_size % 16 != 0) {
    return wrong("head_size", sizes.head_size, "a multiple of 16 from 16 to 128");
  }
  if (sizes.width < sizes.head_size || sizes.width > 65536 || sizes.width % sizes.head_size != 0) {
    return wrong("width", sizes.width, StrCat("a multiple of head_size ", sizes.head_size));
  }
  if (complete.ffn_width == 0) complete.ffn_width = 4 * sizes.width;
  const double root = std::sqrt(static_cast<double>(sizes.width));
  const auto rank = [root](int* size, double q) {
    // To even, as Python's round.
    if (*size == 0) *size = std::max(32, static_cast<int>(std::nearbyint(q * root / 32.0)) * 32);
  };
  rank(&complete.rank_decay, 2.5);
  rank(&complete.rank_iclr, 2.5);
  rank(&complete.rank_value, 1.7);
  rank(&complete.rank_gate, 5.0);
  for (const auto& [name, size] : {std::pair<const char*, int>{"ffn_width", complete.ffn_width},
                                   {"rank_decay", complete.rank_decay},
                                   {"rank_iclr", complete.rank_iclr},
                                   {"rank_value", complete.rank_value},
                                   {"rank_gate", complete.rank_gate}}) {
    if (size < 1 || size > (1 << 20))
      return wrong(name, size, "1 to 1048576, or 0 for the formula");
  }
  return complete;
}

BackboneSizes SizesOf(const rwkv::Config& config) {
  return {.vocab = config.vocab,
          .layers = config.layers,
          .width = config.width,
          .head_size = config.head_size,
          .ffn_width = config.ffn_width,
          .rank_decay = config.rank_decay,
          .rank_iclr = config.rank_iclr,
          .rank_value = config.rank_value,
          .rank_gate = config.rank_gate};
}

absl::StatusOr<BackboneSizes> SizesOf(const tensors::TensorSet& set) {
  DS_ASSIGN_OR_RETURN(const rwkv::Config config, rwkv::Config::FromTensors(set));
  return CompleteSizes(SizesOf(config));
}

std::vector<Parameter> ParametersOf(const BackboneSizes& sizes) {
  std::vector<rwkv::TensorShape> tensors = rwkv::ExpectedTensors(ConfigOf(sizes));
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return GroupOf(a.name, a.shape) < GroupOf(b.name, b.shape);
  });
  std::vector<Parameter> parameters;
  int64_t total = 0;
  for (const rwkv::TensorShape& tensor : tensors) {
    Parameter parameter = {
        .name = tensor.name, .shape = OfficialShape(tensor), .begin = total, .elements = 1};
    for (const int64_t size : tensor.shape) parameter.elements *= size;
    total += parameter.elements;
    parameters.push_back(std::move(parameter));
  }
  return parameters;
}

Backbone::Backbone(const BackboneSizes& sizes, torch::Device device, torch::ScalarType dtype,
                   kernels::ThreadPool& pool)
    : sizes_(sizes), pool_(pool), parameters_(ParametersOf(sizes)) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    index_[parameters_[i].name] = static_cast<int>(i);
  }
  const int64_t total = parameters_.back().begin + parameters_.back().elements;
  const auto options = torch::TensorOptions().device(device).dtype(dtype);
  values_ = torch::zeros({total}, options);
  gradients_ = torch::zeros({total}, options);
  for (const Parameter& parameter : parameters_) {
    Tensor leaf =
        values_.narrow(0, parameter.begin, parameter.elements).view(parameter.shape).detach();
    leaf.set_requires_grad(true);
    leaf.mutable_grad() =
        gradients_.narrow(0, parameter.begin, parameter.elements).view(parameter.shape);
    leaves_.push_back(leaf);
  }
}

const Tensor& Backbone::value(const std::string& name) const { return leaves_[index_.at(name)]; }

const Tensor& Backbone::Get(int layer, const char* name) const {
  return value(StrCat("blocks.", layer, ".", name));
}

void Backbone::RequireGradients(bool wanted) {
  for (Tensor& leaf : leaves_) leaf.set_requires_grad(wanted);
}

void Backbone::Initialise(uint64_t seed) {
  const torch::NoGradGuard no_gradients;
  torch::manual_seed(seed);
  const auto cpu = torch::TensorOptions().dtype(values_.scalar_type());
  const int64_t d = sizes_.width, n = sizes_.head_size;
  const Tensor channel = torch::arange(d, torch::kDouble);
  const Tensor share = channel / static_cast<double>(d);
  const Tensor ramp = channel / static_cast<double>(d - 1);
  const Tensor line = ramp - 0.5;
  Tensor zigzag =
      (torch::remainder(channel, static_cast<double>(n)) - (n - 1) / 2.0) / ((n - 1) / 2.0);
  zigzag = zigzag * zigzag.abs();
  const auto set = [&](const std::string& name, const Tensor& values) {
    Tensor leaf = value(name).detach();
    leaf.copy_(values.to(values_.scalar_type()).view(leaf.sizes()));
  };
  const auto orthogonal = [&](const std::string& name, double gain) {
    const Tensor leaf = value(name);
    Tensor drawn = torch::empty(leaf.sizes(), cpu);
    torch::nn::init::orthogonal_(drawn, gain);
    set(name, drawn);
  };
  // Of the low-rank matrices: wider by the root of how much higher than wide they are.
  const auto low_rank = [&](const std::string& name) {
    const auto shape = value(name).sizes();
    const double rows = static_cast<double>(shape[0]), columns = static_cast<double>(shape[1]);
    orthogonal(name, 0.1 * (rows > columns ? std::sqrt(rows / columns) : 1.0));
  };
  values_.zero_();
  set("emb.weight", torch::empty({sizes_.vocab, d}, cpu).uniform_(-1e-4, 1e-4));
  for (int layer = 0; layer < sizes_.layers; ++layer) {
    const std::string block = Block(layer);
    const std::string att = block + "att.";
    const double depth = sizes_.layers > 1 ? layer / (sizes_.layers - 1.0) : 0.0;
    const double left = 1.0 - static_cast<double>(layer) / sizes_.layers;
    for (const char* norm : {"ln0", "ln1", "ln2"}) {
      if (layer > 0 && std::string_view(norm) == "ln0") continue;
      set(block + norm + ".weight", torch::ones({d}));
    }
    const auto mix = [&](double power) { return 1.0 - share.pow(power); };
    for (const auto& [name, power] : {std::pair<const char*, double>{"x_r", 0.2},
                                      {"x_g", 0.2},
                                      {"x_w", 0.9},
                                      {"x_a", 0.9},
                                      {"x_k", 0.7},
                                      {"x_v", 0.7}}) {
      set(att + name, mix(power * left));
    }
    set(block + "ffn.x_k", mix(std::pow(left, 4.0)));
    set(att + "w0", -6.0 + 6.0 * ramp.pow(1.0 + std::pow(depth, 0.3)) + 0.5 + 2.5 * zigzag);
    set(att + "a0", -0.19 + 0.3 * zigzag + 0.4 * line);
    if (layer > 0) set(att + "v0", 0.73 - 0.4 * line);
    set(att + "k_k", 0.71 - 0.1 * line);
    set(att + "k_a", torch::full({d}, 1.02));
    set(att + "r_k", torch::full({d}, -0.04));
    low_rank(att + "w2");
    low_rank(att + "a2");
    if (layer > 0) low_rank(att + "v2");
    low_rank(att + "g2");
    set(att + "ln_x.weight", torch::full({d}, std::pow((1.0 + layer) / sizes_.layers, 0.7)));
    orthogonal(att + "receptance.weight", 1.0);
    orthogonal(att + "key.weight", 0.1);
    orthogonal(att + "value.weight", 1.0);
    orthogonal(block + "ffn.key.weight", 1.0);
  }
  set("ln_out.weight", torch::ones({d}));
  const double v = sizes_.vocab;
  orthogonal("head.weight", v > d ? 0.5 * std::sqrt(v / static_cast<double>(d)) : 0.5);
}

absl::Status Backbone::Load(const tensors::TensorSet& set) {
  const torch::NoGradGuard no_gradients;
  std::vector<float> values(values_.numel());
  for (const Parameter& parameter : parameters_) {
    const tensors::Tensor* tensor = set.Find(parameter.name);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(StrCat(parameter.name, ": expected ",
                                               tensors::ShapeString(parameter.shape),
                                               ", found no such tensor (", set.source(), ")"));
    }
    const size_t rank = parameter.shape.size() == 3 ? 1 : parameter.shape.size();
    if (rwkv::Squeezed(tensor->shape, rank) != rwkv::Squeezed(parameter.shape, rank)) {
      return absl::InvalidArgumentError(
          StrCat(parameter.name, ": expected ", tensors::ShapeString(parameter.shape), ", found ",
                 tensors::ShapeString(tensor->shape), " (", set.source(), ")"));
    }
    DS_RETURN_IF_ERROR(
        tensors::ToFloat(*tensor, std::span(values).subspan(parameter.begin, parameter.elements)));
  }
  values_.copy_(torch::from_blob(values.data(), {values_.numel()}, torch::kFloat));
  return absl::OkStatus();
}

absl::StatusOr<tensors::TensorSet> Backbone::Export(bool fp32) const {
  const Tensor copy = values_.detach()
                          .to(torch::kCPU, fp32 ? torch::kFloat : torch::kBFloat16)
                          .contiguous()
                          .clone();
  const auto* bytes = static_cast<const std::byte*>(copy.const_data_ptr());
  const size_t element = fp32 ? 4 : 2;
  std::vector<tensors::Tensor> list;
  for (const Parameter& parameter : parameters_) {
    list.push_back({.name = parameter.name,
                    .dtype = fp32 ? tensors::DType::kF32 : tensors::DType::kBF16,
                    .shape = parameter.shape,
                    .data = {bytes + parameter.begin * element, parameter.elements * element}});
  }
  return tensors::TensorSet::Make("the model in training", std::move(list), {},
                                  std::make_shared<Tensor>(copy));
}

Tensor Backbone::TimeMix(int layer, const Tensor& x, const BackboneState& initial,
                         torch::ScalarType products, Tensor* v_first, Tensor* shift,
                         Tensor* wkv) const {
  const int64_t d = x.size(2), h = heads();
  const auto get = [&](const char* name) { return Get(layer, name); };
  const Tensor mix = torch::stack({get("att.x_r"), get("att.x_w"), get("att.x_k"), get("att.x_v"),
                                   get("att.x_a"), get("att.x_g")})
                         .view({6, d});
  const NormShiftMixResult shifted =
      NormShiftMix(x, get("ln1.weight"), get("ln1.bias"),
                   initial.defined() ? initial.shift.select(1, layer).select(1, 0) : Tensor(), mix,
                   products, pool_);
  *shift = shifted.last;
  const auto& mixed = shifted.mixed;
  const auto matrix = [&](int which, const char* name) {
    return Linear(mixed[which], get(name), products);
  };
  const auto low_rank = [&](const Tensor& hidden, const char* name) {
    return LowRank(hidden, get(name), products);
  };
  Wkv7Products made = {.r = matrix(0, "att.receptance.weight"),
                       .k = matrix(2, "att.key.weight"),
                       .v = matrix(3, "att.value.weight"),
                       .w_low = low_rank(torch::tanh(low_rank(mixed[1], "att.w1")), "att.w2"),
                       .a_low = low_rank(low_rank(mixed[4], "att.a1"), "att.a2"),
                       .v_low = {},
                       .v_first = {}};
  Wkv7Vectors vectors = {.w0 = get("att.w0"),
                         .a0 = get("att.a0"),
                         .k_k = get("att.k_k"),
                         .k_a = get("att.k_a"),
                         .v0 = {}};
  if (layer > 0) {
    made.v_low = low_rank(low_rank(mixed[3], "att.v1"), "att.v2");
    made.v_first = *v_first;
    vectors.v0 = get("att.v0");
  }
  const Wkv7Inputs inputs = Wkv7Prepare(made, vectors, h, pool_);
  if (layer == 0) *v_first = inputs.v;
  const Wkv7Result result =
      Wkv7(inputs.r, inputs.w_raw, inputs.k, inputs.v, inputs.a, inputs.b,
           initial.defined() ? initial.wkv.select(1, layer) : Tensor(), pool_);
  *wkv = result.final_state;
  const Tensor gate = low_rank(torch::sigmoid(low_rank(mixed[5], "att.g1")), "att.g2");
  const Tensor y = Wkv7Finish(result.y, inputs, gate, get("att.r_k"), get("att.ln_x.weight"),
                              get("att.ln_x.bias"), pool_);
  return shifted.residual + Linear(y, get("att.output.weight"), products);
}

Tensor Backbone::ChannelMix(int layer, const Tensor& x, const BackboneState& initial,
                            torch::ScalarType products, Tensor* shift) const {
  const NormShiftMixResult shifted =
      NormShiftMix(x, Get(layer, "ln2.weight"), Get(layer, "ln2.bias"),
                   initial.defined() ? initial.shift.select(1, layer).select(1, 1) : Tensor(),
                   Get(layer, "ffn.x_k").view({1, x.size(2)}), products, pool_);
  *shift = shifted.last;
  const Tensor hidden =
      SquaredRelu(Linear(shifted.mixed[0], Get(layer, "ffn.key.weight"), products), pool_);
  return shifted.residual + Linear(hidden, Get(layer, "ffn.value.weight"), products);
}

Backbone::Result Backbone::Forward(const Tensor& tokens, const BackboneState& initial,
                                   torch::ScalarType products) const {
  const int64_t d = sizes_.width;
  Tensor x = torch::embedding(value("emb.weight"), tokens);
  x = torch::layer_norm(x, {d}, Get(0, "ln0.weight"), Get(0, "ln0.bias"), kLayerNormEps);
  Tensor v_first;
  std::vector<Tensor> shifts, states;
  for (int layer = 0; layer < sizes_.layers; ++layer) {
    Tensor time_shift, channel_shift, wkv;
    x = TimeMix(layer, x, initial, products, &v_first, &time_shift, &wkv);
    x = ChannelMix(layer, x, initial, products, &channel_shift);
    shifts.push_back(torch::stack({time_shift, channel_shift}, 1));
    states.push_back(wkv);
  }
  x = torch::layer_norm(x, {d}, value("ln_out.weight"), value("ln_out.bias"), kLayerNormEps);
  return {.hidden = x.to(products),
          .final_state = {.shift = torch::stack(shifts, 1), .wkv = torch::stack(states, 1)}};
}

Tensor Backbone::Head(const Tensor& hidden, torch::ScalarType products) const {
  return Linear(hidden, value("head.weight"), products);
}

}  // namespace dreamstate::training
