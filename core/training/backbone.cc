#include "core/training/backbone.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/config.h"
#include "core/training/optimiser.h"
#include "core/training/wkv7.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;

constexpr double kLayerNormEps = 1e-5;
constexpr double kGroupNormEps = 64e-5;

std::string Block(int layer) { return StrCat("blocks.", layer, "."); }

// The parameters of a backbone by name, in the order of the official modules.
std::vector<std::pair<std::string, std::vector<int64_t>>> Names(const BackboneSizes& sizes) {
  const int64_t d = sizes.width, h = d / sizes.head_size, n = sizes.head_size, v = sizes.vocab,
                f = sizes.ffn_width;
  std::vector<std::pair<std::string, std::vector<int64_t>>> names = {{"emb.weight", {v, d}}};
  const auto norm = [&](const std::string& name) {
    names.push_back({name + ".weight", {d}});
    names.push_back({name + ".bias", {d}});
  };
  for (int layer = 0; layer < sizes.layers; ++layer) {
    const std::string block = Block(layer);
    if (layer == 0) norm(block + "ln0");
    norm(block + "ln1");
    norm(block + "ln2");
    const std::string att = block + "att.";
    for (const char* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}) {
      names.push_back({att + name, {1, 1, d}});
    }
    const auto low_rank = [&](const std::string& name, int64_t rank) {
      names.push_back({att + name + "1", {d, rank}});
      names.push_back({att + name + "2", {rank, d}});
    };
    for (const char* name : {"w0", "a0", "v0", "k_k", "k_a"}) {
      if (layer > 0 || std::string_view(name) != "v0") names.push_back({att + name, {1, 1, d}});
    }
    low_rank("w", sizes.rank_decay);
    low_rank("a", sizes.rank_iclr);
    if (layer > 0) low_rank("v", sizes.rank_value);
    low_rank("g", sizes.rank_gate);
    names.push_back({att + "r_k", {h, n}});
    for (const char* name : {"receptance", "key", "value", "output"}) {
      names.push_back({att + name + ".weight", {d, d}});
    }
    norm(att + "ln_x");
    names.push_back({block + "ffn.x_k", {1, 1, d}});
    names.push_back({block + "ffn.key.weight", {f, d}});
    names.push_back({block + "ffn.value.weight", {d, f}});
  }
  norm("ln_out");
  names.push_back({"head.weight", {v, d}});
  return names;
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

absl::StatusOr<BackboneSizes> SizesOf(const tensors::TensorSet& set) {
  DS_ASSIGN_OR_RETURN(const rwkv::Config config, rwkv::Config::FromTensors(set));
  BackboneSizes sizes = {.vocab = config.vocab,
                         .layers = config.layers,
                         .width = config.width,
                         .head_size = config.head_size,
                         .ffn_width = config.ffn_width,
                         .rank_decay = config.rank_decay,
                         .rank_iclr = config.rank_iclr,
                         .rank_value = config.rank_value,
                         .rank_gate = config.rank_gate};
  return CompleteSizes(sizes);
}

Backbone::Backbone(const BackboneSizes& sizes, torch::Device device, torch::ScalarType dtype,
                   kernels::ThreadPool& pool)
    : sizes_(sizes), pool_(pool) {
  auto names = Names(sizes);
  std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
    return GroupOf(a.first, a.second) < GroupOf(b.first, b.second);
  });
  int64_t total = 0;
  for (auto& [name, shape] : names) {
    Parameter parameter = {.name = name, .shape = shape, .begin = total, .elements = 1};
    for (const int64_t size : shape) parameter.elements *= size;
    total += parameter.elements;
    index_[name] = static_cast<int>(parameters_.size());
    parameters_.push_back(std::move(parameter));
  }
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
    // Checkpoints differ in sizes of one.
    tensors::Shape expected, found;
    for (const int64_t size : parameter.shape) {
      if (size != 1) expected.push_back(size);
    }
    for (const int64_t size : tensor->shape) {
      if (size != 1) found.push_back(size);
    }
    if (expected != found) {
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
  const int64_t batch = x.size(0), tokens = x.size(1), d = x.size(2), h = heads(),
                n = sizes_.head_size;
  const torch::ScalarType type = values_.scalar_type();
  const Tensor z =
      torch::layer_norm(x, {d}, Get(layer, "ln1.weight"), Get(layer, "ln1.bias"), kLayerNormEps);
  const Tensor before = initial.defined() ? initial.shift.select(1, layer).select(1, 0).unsqueeze(1)
                                          : torch::zeros({batch, 1, d}, z.options());
  const Tensor delta = torch::cat({before, z.narrow(1, 0, tokens - 1)}, 1) - z;
  *shift = z.select(1, tokens - 1);
  // [6][1][1][D] -> all six mixtures at once, [6][B][T][D].
  const Tensor mix =
      torch::stack({Get(layer, "att.x_r"), Get(layer, "att.x_w"), Get(layer, "att.x_k"),
                    Get(layer, "att.x_v"), Get(layer, "att.x_a"), Get(layer, "att.x_g")});
  const std::vector<Tensor> mixed =
      torch::addcmul(z.unsqueeze(0), delta.unsqueeze(0), mix).to(products).unbind(0);
  const auto matrix = [&](int which, const char* name) {
    return Linear(mixed[which], Get(layer, name), products).to(type);
  };
  const Tensor r = matrix(0, "att.receptance.weight");
  Tensor k = matrix(2, "att.key.weight");
  Tensor v = matrix(3, "att.value.weight");
  const auto low_rank = [&](const Tensor& hidden, const char* name) {
    return LowRank(hidden, Get(layer, name), products);
  };
  const Tensor w_raw =
      Get(layer, "att.w0") + low_rank(torch::tanh(low_rank(mixed[1], "att.w1")), "att.w2").to(type);
  const Tensor rate = torch::sigmoid(Get(layer, "att.a0") +
                                     low_rank(low_rank(mixed[4], "att.a1"), "att.a2").to(type));
  const Tensor gate = low_rank(torch::sigmoid(low_rank(mixed[5], "att.g1")), "att.g2").to(type);
  if (layer == 0) {
    *v_first = v;
  } else {
    const Tensor residual = torch::sigmoid(
        Get(layer, "att.v0") + low_rank(low_rank(mixed[3], "att.v1"), "att.v2").to(type));
    v = torch::addcmul(v, *v_first - v, residual);
  }
  const auto by_head = [&](const Tensor& t) { return t.view({batch, tokens, h, n}); };
  const Tensor kk = torch::nn::functional::normalize(
      by_head(k * Get(layer, "att.k_k")),
      torch::nn::functional::NormalizeFuncOptions().dim(-1).eps(1e-12));
  k = k * (1.0 + (rate - 1.0) * Get(layer, "att.k_a"));
  const Tensor r_h = by_head(r), k_h = by_head(k), v_h = by_head(v);
  const Wkv7Result result =
      Wkv7(r_h, by_head(w_raw), k_h, v_h, -kk, kk * by_head(rate),
           initial.defined() ? initial.wkv.select(1, layer) : Tensor(), pool_);
  *wkv = result.final_state;
  Tensor y = torch::layer_norm(result.y, {n}, {}, {}, kGroupNormEps).view({batch, tokens, d});
  y = torch::addcmul(Get(layer, "att.ln_x.bias"), y, Get(layer, "att.ln_x.weight"));
  const Tensor bonus = (r_h * k_h * Get(layer, "att.r_k")).sum(-1, true) * v_h;
  y = (y + bonus.view({batch, tokens, d})) * gate;
  return x + Linear(y.to(products), Get(layer, "att.output.weight"), products).to(type);
}

Tensor Backbone::ChannelMix(int layer, const Tensor& x, const BackboneState& initial,
                            torch::ScalarType products, Tensor* shift) const {
  const int64_t batch = x.size(0), tokens = x.size(1), d = x.size(2);
  const Tensor z =
      torch::layer_norm(x, {d}, Get(layer, "ln2.weight"), Get(layer, "ln2.bias"), kLayerNormEps);
  const Tensor before = initial.defined() ? initial.shift.select(1, layer).select(1, 1).unsqueeze(1)
                                          : torch::zeros({batch, 1, d}, z.options());
  const Tensor delta = torch::cat({before, z.narrow(1, 0, tokens - 1)}, 1) - z;
  *shift = z.select(1, tokens - 1);
  const Tensor mixed = torch::addcmul(z, delta, Get(layer, "ffn.x_k")).to(products);
  const Tensor hidden = torch::relu(Linear(mixed, Get(layer, "ffn.key.weight"), products)).square();
  return x + Linear(hidden, Get(layer, "ffn.value.weight"), products).to(values_.scalar_type());
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
