#include "tests/benchmarks/training/plain_backbone.h"

#include <ATen/autocast_mode.h>

#include "core/base/strings.h"
#include "core/training/wkv7.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;
namespace F = torch::nn::functional;

class Autocast {
 public:
  explicit Autocast(bool wanted) {
    at::autocast::set_autocast_enabled(at::kCPU, wanted);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  }
  ~Autocast() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
};

// Each token's predecessor, zero before the first.
Tensor Shifted(const Tensor& x) { return torch::constant_pad_nd(x, {0, 0, 1, -1}); }

}  // namespace

PlainBackbone::PlainBackbone(const Backbone& other, bool bf16, kernels::ThreadPool& pool)
    : sizes_(other.sizes()), bf16_(bf16), pool_(pool) {
  std::vector<Tensor> matrices, others;
  for (const Parameter& parameter : other.parameters()) {
    Tensor value = other.value(parameter.name).detach().clone().requires_grad_(true);
    parameters_[parameter.name] = value;
    (value.dim() == 2 ? matrices : others).push_back(value);
  }
  optimiser_ = std::make_unique<torch::optim::AdamW>(
      std::vector<torch::optim::OptimizerParamGroup>{
          torch::optim::OptimizerParamGroup(matrices),
          torch::optim::OptimizerParamGroup(others,
                                            std::make_unique<torch::optim::AdamWOptions>(
                                                torch::optim::AdamWOptions().weight_decay(0.0)))},
      torch::optim::AdamWOptions(1e-3).betas({0.9, 0.99}).eps(1e-18).weight_decay(0.1));
}

const Tensor& PlainBackbone::Get(int layer, const char* name) const {
  return parameters_.at(StrCat("blocks.", layer, ".", name));
}

Tensor PlainBackbone::Logits(const Tensor& tokens) const {
  const int64_t batch = tokens.size(0), time = tokens.size(1), d = sizes_.width,
                n = sizes_.head_size, h = d / n;
  const auto norm = [d](const Tensor& x, const Tensor& weight, const Tensor& bias) {
    return torch::layer_norm(x, {d}, weight, bias, 1e-5);
  };
  Tensor x = torch::embedding(parameters_.at("emb.weight"), tokens);
  x = norm(x, Get(0, "ln0.weight"), Get(0, "ln0.bias"));
  Tensor v_first;
  for (int layer = 0; layer < sizes_.layers; ++layer) {
    const auto get = [&](const char* name) { return Get(layer, name); };
    const Tensor z = norm(x, get("ln1.weight"), get("ln1.bias"));
    const Tensor difference = Shifted(z) - z;
    const auto mixed = [&](const char* name) { return z + difference * get(name); };
    const Tensor xr = mixed("att.x_r"), xw = mixed("att.x_w"), xk = mixed("att.x_k"),
                 xv = mixed("att.x_v"), xa = mixed("att.x_a"), xg = mixed("att.x_g");
    const Tensor r = F::linear(xr, get("att.receptance.weight"));
    const Tensor w =
        get("att.w0") + torch::matmul(torch::tanh(torch::matmul(xw, get("att.w1"))), get("att.w2"));
    Tensor k = F::linear(xk, get("att.key.weight"));
    Tensor v = F::linear(xv, get("att.value.weight"));
    if (layer == 0) {
      v_first = v;
    } else {
      v = v + (v_first - v) *
                  torch::sigmoid(get("att.v0") +
                                 torch::matmul(torch::matmul(xv, get("att.v1")), get("att.v2")));
    }
    const Tensor a = torch::sigmoid(get("att.a0") +
                                    torch::matmul(torch::matmul(xa, get("att.a1")), get("att.a2")));
    const Tensor g = torch::matmul(torch::sigmoid(torch::matmul(xg, get("att.g1"))), get("att.g2"));
    const auto heads = [&](const Tensor& t) {
      return t.to(torch::kFloat).view({batch, time, h, n});
    };
    const Tensor kk =
        F::normalize(heads(k * get("att.k_k")), F::NormalizeFuncOptions().dim(-1).eps(1e-12));
    k = k * (1 + (a - 1) * get("att.k_a"));
    const Tensor rh = heads(r), kh = heads(k), vh = heads(v);
    const Wkv7Result result = Wkv7(rh, heads(w), kh, vh, -kk, kk * heads(a), Tensor(), pool_);
    Tensor y =
        F::group_norm(result.y.reshape({batch * time, d}), F::GroupNormFuncOptions(h)
                                                               .weight(get("att.ln_x.weight"))
                                                               .bias(get("att.ln_x.bias"))
                                                               .eps(64e-5))
            .view({batch, time, d});
    y = y + ((rh * kh * get("att.r_k")).sum(-1, true) * vh).view({batch, time, d});
    x = x + F::linear(y * g, get("att.output.weight"));
    const Tensor zf = norm(x, get("ln2.weight"), get("ln2.bias"));
    const Tensor xf = zf + (Shifted(zf) - zf) * get("ffn.x_k");
    x = x + F::linear(torch::relu(F::linear(xf, get("ffn.key.weight"))).square(),
                      get("ffn.value.weight"));
  }
  x = norm(x, parameters_.at("ln_out.weight"), parameters_.at("ln_out.bias"));
  return F::linear(x, parameters_.at("head.weight"));
}

double PlainBackbone::Step(const Batch& batch, double lr) {
  const auto tensor = [&](const std::vector<int32_t>& values) {
    return torch::tensor(values, torch::kInt).view({batch.rows, batch.tokens}).to(torch::kLong);
  };
  for (auto& group : optimiser_->param_groups()) {
    static_cast<torch::optim::AdamWOptions&>(group.options()).lr(lr);
  }
  optimiser_->zero_grad();
  Tensor loss;
  {
    const Autocast autocast(bf16_);
    const Tensor logits = Logits(tensor(batch.inputs)).to(torch::kFloat);
    loss = F::cross_entropy(logits.flatten(0, 1), tensor(batch.targets).flatten());
  }
  loss.backward();
  std::vector<Tensor> all;
  for (const auto& [name, value] : parameters_) all.push_back(value);
  torch::nn::utils::clip_grad_norm_(all, 1.0);
  optimiser_->step();
  return loss.item<double>();
}

}  // namespace dreamstate::training
