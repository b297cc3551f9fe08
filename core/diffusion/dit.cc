#include "core/diffusion/dit.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::diffusion {
namespace {

using torch::Tensor;

constexpr int kTimeFrequencies = 64;
constexpr double kLongestPeriod = 10000;
constexpr double kTimeScale = 1000;  // t in [0, 1] is spread over the periods

std::string Block(int layer) { return StrCat("blocks.", layer, "."); }

Tensor Linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}) {
  return torch::linear(x, weight.to(x.scalar_type()),
                       bias.defined() ? bias.to(x.scalar_type()) : bias);
}

Tensor Norm(const Tensor& x) { return torch::rms_norm(x, {x.size(-1)}); }

// [B][D] of the times' sines and cosines.
Tensor TimeFeatures(const Tensor& t) {
  const Tensor rates = torch::exp(torch::arange(kTimeFrequencies, t.options()) *
                                  (-std::log(kLongestPeriod) / kTimeFrequencies));
  const Tensor angles = (t * kTimeScale).unsqueeze(1) * rates;
  return torch::cat({angles.cos(), angles.sin()}, 1);
}

}  // namespace

absl::Status CheckSizes(const DitSizes& s) {
  const auto check = [](const char* name, int found, int least, int most) -> absl::Status {
    if (found >= least && found <= most) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat(name, ": expected ", least, " to ", most, ", found ", found));
  };
  DS_RETURN_IF_ERROR(check("state_heads", s.state_heads, 1, 1 << 16));
  DS_RETURN_IF_ERROR(check("blocks", s.blocks, 1, 4));
  DS_RETURN_IF_ERROR(check("token_size", s.token_size, 1, 1 << 14));
  DS_RETURN_IF_ERROR(check("width", s.width, 16, 1 << 13));
  DS_RETURN_IF_ERROR(check("layers", s.layers, 1, 128));
  DS_RETURN_IF_ERROR(check("head_size", s.head_size, 8, 256));
  DS_RETURN_IF_ERROR(check("mlp", s.mlp, 16, 1 << 15));
  DS_RETURN_IF_ERROR(check("registers", s.registers, 0, 64));
  DS_RETURN_IF_ERROR(check("labels", s.labels, 0, 1 << 16));
  DS_RETURN_IF_ERROR(check("activation_width", s.activation_width, 1, 1 << 16));
  DS_RETURN_IF_ERROR(check("text_tokens", s.text_tokens, 1, 256));
  if (s.width % s.head_size != 0) {
    return absl::InvalidArgumentError(
        StrCat("width: expected a multiple of head_size ", s.head_size, ", found ", s.width));
  }
  return absl::OkStatus();
}

DitCondition DitCondition::None(const DitSizes& sizes, int64_t samples, torch::Device device) {
  const auto integers = torch::TensorOptions().dtype(torch::kLong).device(device);
  return {.label = torch::full({samples}, sizes.labels, integers),
          .text = {},
          .text_length = torch::zeros({samples}, integers)};
}

std::vector<Dit::Parameter> Dit::ParametersOf(const DitSizes& s) {
  const int64_t d = s.width, k = s.token_size;
  std::vector<Parameter> list;
  // [out][in], as torch::linear takes it.
  const auto matrix = [&](std::string name, std::vector<int64_t> shape, double gain = 1.0) {
    const double deviation = gain / std::sqrt(static_cast<double>(shape.back()));
    list.push_back({std::move(name), std::move(shape), deviation, 0, true});
  };
  const auto table = [&](std::string name, std::vector<int64_t> shape, double deviation) {
    list.push_back({std::move(name), std::move(shape), deviation, 0, false});
  };
  const auto constant = [&](std::string name, std::vector<int64_t> shape, double value) {
    list.push_back({std::move(name), std::move(shape), 0, value, false});
  };
  matrix("in", {s.blocks, k, d}, std::sqrt(static_cast<double>(d) / static_cast<double>(k)));
  list.push_back({"out", {s.blocks, d, k}, 0, 0, true});
  table("position", {s.tokens(), d}, 0.02);
  table("registers", {s.registers, d}, 0.02);
  matrix("time.in", {d, 2 * kTimeFrequencies});
  constant("time.in.bias", {d}, 0);
  matrix("time.out", {d, d});
  constant("time.out.bias", {d}, 0);
  table("label", {s.labels + 1, d}, 0.02);
  matrix("text.in", {d, s.activation_width});
  constant("text.in.bias", {d}, 0);
  table("text.none", {d}, 0.02);
  table("text.latents", {s.text_tokens, d}, 0.5);
  for (const char* part : {"q", "k", "v", "o"}) matrix(StrCat("text.", part), {d, d});
  constant("text.q_norm", {s.head_size}, 1);
  constant("text.k_norm", {s.head_size}, 1);
  matrix("text.up", {2 * s.mlp, d});
  matrix("text.down", {d, s.mlp});
  // Every block is the identity to begin with.
  list.push_back({"modulation", {6 * d, d}, 0, 0, true});
  constant("modulation.bias", {6 * d}, 0);
  for (int layer = 0; layer < s.layers; ++layer) {
    constant(Block(layer) + "modulation", {6, d}, 0);
    matrix(Block(layer) + "qkv", {3 * d, d});
    matrix(Block(layer) + "o", {d, d});
    constant(Block(layer) + "q_norm", {s.head_size}, 1);
    constant(Block(layer) + "k_norm", {s.head_size}, 1);
    matrix(Block(layer) + "up", {2 * s.mlp, d});
    matrix(Block(layer) + "down", {d, s.mlp});
  }
  list.push_back({"out.modulation", {2 * d, d}, 0, 0, true});
  constant("out.modulation.bias", {2 * d}, 0);
  // What tells the network which of the two is asked for.
  if (s.tuned) constant("tuned", {d}, 0);
  std::stable_partition(list.begin(), list.end(), [](const Parameter& p) { return p.decay; });
  return list;
}

Dit::Dit(const DitSizes& sizes, torch::Device device)
    : sizes_(sizes), parameters_(ParametersOf(sizes)) {
  int64_t all = 0;
  const auto elements = [](const Parameter& parameter) {
    int64_t product = 1;
    for (const int64_t size : parameter.shape) product *= size;
    return product;
  };
  for (const Parameter& parameter : parameters_) {
    all += elements(parameter);
    if (parameter.decay) decayed_ += elements(parameter);
  }
  values_ = torch::zeros({all}, torch::TensorOptions().dtype(torch::kFloat).device(device));
  gradients_ = torch::zeros_like(values_);
  int64_t begin = 0;
  for (const Parameter& parameter : parameters_) {
    const int64_t size = elements(parameter);
    Tensor leaf = values_.narrow(0, begin, size).view(parameter.shape).detach();
    leaf.set_requires_grad(true);
    leaf.mutable_grad() = gradients_.narrow(0, begin, size).view(parameter.shape);
    leaves_.push_back(std::move(leaf));
    begin += size;
  }
}

void Dit::Initialise(uint64_t seed) {
  const torch::NoGradGuard no_gradients;
  torch::Generator generator = torch::make_generator<torch::CPUGeneratorImpl>(seed);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& parameter = parameters_[i];
    Tensor leaf = leaves_[i].detach();
    if (parameter.deviation == 0) {
      leaf.fill_(parameter.constant);
    } else {
      leaf.copy_(torch::empty(parameter.shape).normal_(0, parameter.deviation, generator));
    }
  }
}

void Dit::RequireGradients(bool wanted) {
  for (Tensor& leaf : leaves_) leaf.set_requires_grad(wanted);
}

const Tensor& Dit::Get(const std::string& name) const {
  const auto found =
      std::find_if(parameters_.begin(), parameters_.end(),
                   [&](const Parameter& parameter) { return parameter.name == name; });
  TORCH_CHECK(found != parameters_.end(), "no parameter ", name);
  return leaves_[found - parameters_.begin()];
}

// q [B][S][D], k and v [B][T][D] -> [B][S][D]; queries and keys are normalised head by head.
Tensor Dit::Attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::string& prefix,
                      const std::optional<Tensor>& mask) const {
  const int64_t n = sizes_.head_size, heads = sizes_.width / n;
  const auto split = [&](const Tensor& x) {
    return x.view({x.size(0), x.size(1), heads, n}).transpose(1, 2);
  };
  const auto normed = [&](const Tensor& x, const char* name) {
    return torch::rms_norm(split(x), {n}, Get(prefix + name).to(x.scalar_type()));
  };
  const Tensor out =
      torch::scaled_dot_product_attention(normed(q, "q_norm"), normed(k, "k_norm"), split(v), mask);
  return out.transpose(1, 2).reshape({q.size(0), q.size(1), sizes_.width});
}

// What each text says, in text_tokens tokens: latents that attend to the text's tokens, and to one
// that stands for no text.
Tensor Dit::TextTokens(const DitCondition& condition, int64_t samples,
                       torch::ScalarType products) const {
  const int64_t d = sizes_.width;
  Tensor keys = Get("text.none").view({1, 1, d}).expand({samples, 1, d}).to(products);
  std::optional<Tensor> mask;
  if (condition.text.defined()) {
    const Tensor text = Linear(Norm(condition.text.to(torch::kFloat)).to(products), Get("text.in"),
                               Get("text.in.bias"));
    keys = torch::cat({keys, text}, 1);
    const Tensor places = torch::arange(keys.size(1), condition.text_length.options());
    mask = (places.unsqueeze(0) <= condition.text_length.unsqueeze(1)).view({samples, 1, 1, -1});
  }
  const Tensor latents =
      Get("text.latents").unsqueeze(0).expand({samples, sizes_.text_tokens, d}).to(products);
  const Tensor normed = Norm(keys);
  const Tensor read = Attention(Linear(Norm(latents), Get("text.q")), Linear(normed, Get("text.k")),
                                Linear(normed, Get("text.v")), "text.", mask);
  const Tensor x = latents + Linear(read, Get("text.o"));
  const auto parts = Linear(Norm(x), Get("text.up")).chunk(2, -1);
  return x + Linear(torch::silu(parts[0]) * parts[1], Get("text.down"));
}

Tensor Dit::Forward(const Tensor& z, const Tensor& t, const DitCondition& condition,
                    torch::ScalarType products) const {
  const int64_t b = z.size(0), d = sizes_.width, k = sizes_.token_size;
  const int64_t blocks = sizes_.blocks, heads = sizes_.state_heads, g = sizes_.tokens();
  // Tokens of one kind share their matrix.
  const auto by_kind = [&](const Tensor& x) {  // [B][heads][blocks][n] -> [blocks][B * heads][n]
    return x.view({b * heads, blocks, x.size(-1)}).transpose(0, 1);
  };
  const auto by_token = [&](const Tensor& x) {
    return x.transpose(0, 1).reshape({b, g, x.size(-1)});
  };
  const Tensor tokens = by_token(torch::bmm(by_kind(z.to(products)), Get("in").to(products))) +
                        Get("position").to(products);
  const Tensor text = TextTokens(condition, b, products);
  const Tensor label = Get("label").index_select(0, condition.label).to(products);
  const Tensor time =
      Linear(torch::silu(Linear(TimeFeatures(t).to(products), Get("time.in"), Get("time.in.bias"))),
             Get("time.out"), Get("time.out.bias"));
  Tensor told = time + label + text.mean(1);
  if (condition.tuned) told = told + Get("tuned").to(products);
  const Tensor pooled = torch::silu(told);
  const Tensor registers =
      Get("registers").unsqueeze(0).expand({b, sizes_.registers, d}).to(products);
  Tensor x = torch::cat({tokens, registers, label.unsqueeze(1), text}, 1);
  const Tensor shared = Linear(pooled, Get("modulation"), Get("modulation.bias")).view({b, 6, d});
  for (int layer = 0; layer < sizes_.layers; ++layer) {
    const std::string block = Block(layer);
    const auto m = (shared + Get(block + "modulation").to(products)).unsqueeze(2).unbind(1);
    const Tensor h = Norm(x) * (1 + m[0]) + m[1];
    const auto qkv = Linear(h, Get(block + "qkv")).chunk(3, -1);
    x = x + m[2] * Linear(Attention(qkv[0], qkv[1], qkv[2], block, std::nullopt), Get(block + "o"));
    const auto parts = Linear(Norm(x) * (1 + m[3]) + m[4], Get(block + "up")).chunk(2, -1);
    x = x + m[5] * Linear(torch::silu(parts[0]) * parts[1], Get(block + "down"));
  }
  const auto last = Linear(pooled, Get("out.modulation"), Get("out.modulation.bias"))
                        .view({b, 2, 1, d})
                        .unbind(1);
  const Tensor out = Norm(x.narrow(1, 0, g)) * (1 + last[0]) + last[1];
  return by_token(torch::bmm(by_kind(out.contiguous()), Get("out").to(products)))
      .to(torch::kFloat)
      .view({b, g, k});
}

std::vector<tensors::Tensor> Dit::Export(const Tensor& flat,
                                         std::vector<std::string>* bytes) const {
  const Tensor rounded = flat.detach().to(torch::kCPU, torch::kBFloat16).contiguous();
  const auto* data = static_cast<const char*>(rounded.const_data_ptr());
  std::vector<tensors::Tensor> list;
  bytes->reserve(parameters_.size());
  size_t begin = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const size_t size = static_cast<size_t>(leaves_[i].numel()) * sizeof(uint16_t);
    bytes->emplace_back(data + begin, size);
    list.push_back({.name = StrCat("dit.", parameters_[i].name),
                    .dtype = tensors::DType::kBF16,
                    .shape = parameters_[i].shape,
                    .data = std::as_bytes(std::span(bytes->back()))});
    begin += size;
  }
  return list;
}

void Dit::CopyFrom(const Dit& other) {
  const torch::NoGradGuard no_gradients;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].name == "tuned" && !other.sizes_.tuned) continue;
    leaves_[i].detach().copy_(other.Get(parameters_[i].name));
  }
}

absl::StatusOr<std::unique_ptr<Dit>> Dit::Load(const tensors::TensorSet& set,
                                               torch::Device device) {
  constexpr int64_t kAny = -1;
  constexpr int64_t kLargest = 1 << 20;
  DitSizes sizes;
  int64_t tokens = 0, mlp2 = 0;
  const auto shape = [&](const char* name, std::vector<int64_t*> into) -> absl::Status {
    const tensors::Shape any(into.size(), kAny);
    DS_ASSIGN_OR_RETURN(const tensors::Tensor* tensor, set.Require(name, any));
    for (size_t i = 0; i < into.size(); ++i) {
      if (tensor->shape[i] > kLargest) {
        return absl::InvalidArgumentError(
            StrCat(name, ": too large: ", tensors::ShapeString(tensor->shape)));
      }
      if (into[i] != nullptr) *into[i] = tensor->shape[i];
    }
    return absl::OkStatus();
  };
  int64_t blocks = 0, k = 0, d = 0, registers = 0, labels = 0, activations = 0, text = 0, n = 0;
  DS_RETURN_IF_ERROR(shape("dit.in", {&blocks, &k, &d}));
  DS_RETURN_IF_ERROR(shape("dit.position", {&tokens, nullptr}));
  DS_RETURN_IF_ERROR(shape("dit.registers", {&registers, nullptr}));
  DS_RETURN_IF_ERROR(shape("dit.label", {&labels, nullptr}));
  DS_RETURN_IF_ERROR(shape("dit.text.in", {nullptr, &activations}));
  DS_RETURN_IF_ERROR(shape("dit.text.latents", {&text, nullptr}));
  DS_RETURN_IF_ERROR(shape("dit.text.q_norm", {&n}));
  DS_RETURN_IF_ERROR(shape("dit.text.up", {&mlp2, nullptr}));
  sizes.blocks = static_cast<int>(blocks);
  sizes.token_size = static_cast<int>(k);
  sizes.width = static_cast<int>(d);
  sizes.state_heads = static_cast<int>(blocks > 0 ? tokens / blocks : 0);
  sizes.registers = static_cast<int>(registers);
  sizes.labels = static_cast<int>(labels) - 1;
  sizes.activation_width = static_cast<int>(activations);
  sizes.text_tokens = static_cast<int>(text);
  sizes.head_size = static_cast<int>(n);
  sizes.mlp = static_cast<int>(mlp2 / 2);
  sizes.layers = 0;
  while (set.Find(StrCat("dit.", Block(sizes.layers), "qkv")) != nullptr) ++sizes.layers;
  sizes.tuned = set.Find("dit.tuned") != nullptr;
  DS_RETURN_IF_ERROR(WithPrefix("state DiT", CheckSizes(sizes)));
  auto dit = std::make_unique<Dit>(sizes, device);
  const torch::NoGradGuard no_gradients;
  for (size_t i = 0; i < dit->parameters_.size(); ++i) {
    const Parameter& parameter = dit->parameters_[i];
    DS_ASSIGN_OR_RETURN(const tensors::Tensor* tensor,
                        set.Require(StrCat("dit.", parameter.name), parameter.shape));
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    DS_RETURN_IF_ERROR(tensors::ToFloat(*tensor, values));
    Tensor leaf = dit->leaves_[i].detach();
    leaf.copy_(torch::from_blob(values.data(), parameter.shape, torch::kFloat));
  }
  for (const tensors::Tensor& tensor : set.tensors()) {
    const auto same = [&](const Parameter& parameter) {
      return tensor.name == StrCat("dit.", parameter.name);
    };
    if (tensor.name.starts_with("dit.") &&
        std::none_of(dit->parameters_.begin(), dit->parameters_.end(), same)) {
      return absl::InvalidArgumentError(
          StrCat(tensor.name, ": is no tensor of a state DiT with ", sizes.layers, " blocks"));
    }
  }
  dit->RequireGradients(false);
  return dit;
}

}  // namespace dreamstate::diffusion
