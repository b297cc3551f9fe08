#include "core/training/time_mix.h"

#include <ATen/record_function.h>

#include "kernels/time_mix_gradient/time_mix_gradient.h"

namespace dreamstate::training {
namespace {

using kernels::Bf16;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLayerNormEps = 1e-5, kGroupNormEps = 64e-5;

bool HasKernel(const Tensor& x, torch::ScalarType products) {
  return x.is_cpu() && x.scalar_type() == torch::kFloat &&
         (products == torch::kFloat || products == torch::kBFloat16);
}

// Calls body(Element()) for the type of matrix products.
template <typename Body>
void ForElement(torch::ScalarType products, const Body& body) {
  if (products == torch::kFloat) {
    body(float());
  } else {
    body(Bf16());
  }
}
template <typename T>
const T* In(const Tensor& tensor) {
  return tensor.defined() && tensor.numel() > 0 ? static_cast<const T*>(tensor.const_data_ptr())
                                                : nullptr;
}
template <typename T>
T* Out(const Tensor& tensor) {
  return tensor.defined() && tensor.numel() > 0 ? static_cast<T*>(tensor.mutable_data_ptr())
                                                : nullptr;
}
// torch's functions take no undefined inputs: an empty one stands for it.
Tensor OrEmpty(const Tensor& tensor, const Tensor& like) {
  return tensor.defined() ? tensor : torch::empty({0}, like.options());
}
kernels::ThreadPool& Pool(AutogradContext* context) {
  return *reinterpret_cast<kernels::ThreadPool*>(context->saved_data["pool"].toInt());
}

class NormShiftMixFunction : public torch::autograd::Function<NormShiftMixFunction> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& x_, const Tensor& weight,
                               const Tensor& bias, const Tensor& before_, const Tensor& mix_,
                               int64_t type, int64_t pool) {
    RECORD_FUNCTION("NormShiftMix", {});
    const auto products = static_cast<torch::ScalarType>(type);
    const Tensor x = x_.contiguous(), before = before_.contiguous(), mix = mix_.contiguous();
    variable_list out;
    for (int64_t n = 0; n < mix.size(0); ++n) {
      out.push_back(torch::empty(x.sizes(), x.options().dtype(products)));
    }
    const Tensor last = torch::empty({x.size(0), x.size(2)}, x.options());
    const Tensor moments = torch::empty({x.size(0), x.size(1), 2}, x.options());
    ForElement(products, [&](auto element) {
      using Element = decltype(element);
      Element* mixed[kernels::kMostMixes] = {};
      for (size_t n = 0; n < out.size(); ++n) mixed[n] = Out<Element>(out[n]);
      kernels::NormShiftMixForward<Element>(ShapeOf(x, mix), InputsOf(x, weight, bias, before, mix),
                                            mixed, Out<float>(last), Out<float>(moments),
                                            *reinterpret_cast<kernels::ThreadPool*>(pool));
    });
    context->save_for_backward({x, weight, bias, before, mix, moments});
    context->saved_data["pool"] = pool;
    context->saved_data["type"] = type;
    context->saved_data["before"] = before_.numel() > 0 && before_.requires_grad();
    out.push_back(last);
    out.push_back(x_);  // the residual
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &mix = saved[4];
    const Tensor dx = torch::empty_like(x), dweight = torch::empty_like(saved[1]),
                 dbias = torch::empty_like(saved[2]), dmix = torch::empty_like(mix),
                 dbefore = context->saved_data["before"].toBool() ? torch::empty_like(saved[3])
                                                                  : Tensor();
    variable_list d_mixed;
    for (int64_t n = 0; n < mix.size(0); ++n) d_mixed.push_back(gradients[n].contiguous());
    const Tensor d_last = gradients[mix.size(0)].contiguous();
    const Tensor d_residual = gradients[mix.size(0) + 1].contiguous();
    ForElement(static_cast<torch::ScalarType>(context->saved_data["type"].toInt()),
               [&](auto element) {
                 using Element = decltype(element);
                 const Element* d[kernels::kMostMixes] = {};
                 for (size_t n = 0; n < d_mixed.size(); ++n) d[n] = In<Element>(d_mixed[n]);
                 kernels::NormShiftMixBackward<Element>(
                     ShapeOf(x, mix), InputsOf(x, saved[1], saved[2], saved[3], mix),
                     In<float>(saved[5]), d, In<float>(d_last), In<float>(d_residual),
                     {Out<float>(dx), Out<float>(dweight), Out<float>(dbias), Out<float>(dbefore),
                      Out<float>(dmix)},
                     Pool(context));
               });
    return {dx, dweight, dbias, dbefore, dmix, Tensor(), Tensor()};
  }

 private:
  static kernels::NormShiftMixShape ShapeOf(const Tensor& x, const Tensor& mix) {
    return {.batch = static_cast<int>(x.size(0)),
            .tokens = static_cast<int>(x.size(1)),
            .width = static_cast<int>(x.size(2)),
            .mixes = static_cast<int>(mix.size(0)),
            .epsilon = static_cast<float>(kLayerNormEps)};
  }
  static kernels::NormShiftMixInputs InputsOf(const Tensor& x, const Tensor& weight,
                                              const Tensor& bias, const Tensor& before,
                                              const Tensor& mix) {
    return {In<float>(x), In<float>(weight), In<float>(bias), In<float>(before), In<float>(mix)};
  }
};

kernels::HeadsShape HeadsOf(const Tensor& x, int64_t heads) {
  return {.rows = x.numel() / x.size(-1),
          .heads = static_cast<int>(heads),
          .head_size = static_cast<int>(x.size(-1) / heads)};
}

class Wkv7PrepareFunction : public torch::autograd::Function<Wkv7PrepareFunction> {
 public:
  // Inputs in the order of Wkv7PrepareInputs; what layer 0 lacks is empty.
  static variable_list forward(AutogradContext* context, const Tensor& r, const Tensor& k,
                               const Tensor& v, const Tensor& w_low, const Tensor& a_low,
                               const Tensor& v_low, const Tensor& v_first, const Tensor& v0,
                               const Tensor& w0, const Tensor& a0, const Tensor& k_k,
                               const Tensor& k_a, int64_t heads, int64_t pool) {
    RECORD_FUNCTION("Wkv7Prepare", {});
    variable_list saved;
    for (const Tensor* input :
         {&r, &k, &v, &w_low, &a_low, &v_low, &v_first, &v0, &w0, &a0, &k_k, &k_a}) {
      saved.push_back(input->contiguous());
    }
    variable_list out;
    for (int i = 0; i < 6; ++i) {
      out.push_back(torch::empty({r.size(0), r.size(1), heads, r.size(2) / heads}, w0.options()));
    }
    ForElement(r.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      kernels::Wkv7PrepareForward<Element>(
          HeadsOf(r, heads), InputsOf<Element>(saved),
          {Out<float>(out[0]), Out<float>(out[1]), Out<float>(out[2]), Out<float>(out[3]),
           Out<float>(out[4]), Out<float>(out[5])},
          *reinterpret_cast<kernels::ThreadPool*>(pool));
    });
    context->save_for_backward(saved);
    context->saved_data["pool"] = pool;
    context->saved_data["heads"] = heads;
    for (const int again : {0, 2, 3}) out.push_back(out[again].detach());  // r, k and v
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    variable_list d_out, out;
    for (const Tensor& gradient : gradients) d_out.push_back(gradient.contiguous());
    for (const Tensor& input : saved) {
      out.push_back(input.numel() > 0 ? torch::empty_like(input) : Tensor());
    }
    ForElement(saved[0].scalar_type(), [&](auto element) {
      using Element = decltype(element);
      kernels::Wkv7PrepareBackward<Element>(
          HeadsOf(saved[0], context->saved_data["heads"].toInt()), InputsOf<Element>(saved),
          {In<float>(d_out[0]), In<float>(d_out[1]), In<float>(d_out[2]), In<float>(d_out[3]),
           In<float>(d_out[4]), In<float>(d_out[5]), In<float>(d_out[6]), In<float>(d_out[7]),
           In<float>(d_out[8])},
          {Out<Element>(out[0]), Out<Element>(out[1]), Out<Element>(out[2]), Out<Element>(out[3]),
           Out<Element>(out[4]), Out<Element>(out[5]), Out<float>(out[6]), Out<float>(out[7]),
           Out<float>(out[8]), Out<float>(out[9]), Out<float>(out[10]), Out<float>(out[11])},
          Pool(context));
    });
    out.resize(14);  // the heads and the pool
    return out;
  }

 private:
  template <typename Element>
  static kernels::Wkv7PrepareInputs<Element> InputsOf(const variable_list& in) {
    return {In<Element>(in[0]), In<Element>(in[1]), In<Element>(in[2]), In<Element>(in[3]),
            In<Element>(in[4]), In<Element>(in[5]), In<float>(in[6]),   In<float>(in[7]),
            In<float>(in[8]),   In<float>(in[9]),   In<float>(in[10]),  In<float>(in[11])};
  }
};

class Wkv7FinishFunction : public torch::autograd::Function<Wkv7FinishFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& y, const Tensor& r, const Tensor& k,
                        const Tensor& v, const Tensor& gate, const Tensor& r_k,
                        const Tensor& weight, const Tensor& bias, int64_t pool) {
    RECORD_FUNCTION("Wkv7Finish", {});
    variable_list saved;
    for (const Tensor* input : {&y, &r, &k, &v, &gate, &r_k, &weight, &bias}) {
      saved.push_back(input->contiguous());
    }
    const Tensor out = torch::empty_like(saved[4]);
    ForElement(gate.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      kernels::Wkv7FinishForward<Element>(HeadsOf(gate, y.size(2)), InputsOf<Element>(saved),
                                          Out<Element>(out),
                                          *reinterpret_cast<kernels::ThreadPool*>(pool));
    });
    context->save_for_backward(saved);
    context->saved_data["pool"] = pool;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor d_out = gradients[0].contiguous();
    variable_list out;
    for (const Tensor& input : saved) out.push_back(torch::empty_like(input));
    ForElement(d_out.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      kernels::Wkv7FinishBackward<Element>(
          HeadsOf(d_out, saved[0].size(2)), InputsOf<Element>(saved), In<Element>(d_out),
          {Out<float>(out[0]), Out<float>(out[1]), Out<float>(out[2]), Out<float>(out[3]),
           Out<Element>(out[4]), Out<float>(out[5]), Out<float>(out[6]), Out<float>(out[7])},
          Pool(context));
    });
    out.push_back(Tensor());  // the pool
    return out;
  }

 private:
  template <typename Element>
  static kernels::Wkv7FinishInputs<Element> InputsOf(const variable_list& in) {
    return {In<float>(in[0]),   In<float>(in[1]), In<float>(in[2]), In<float>(in[3]),
            In<Element>(in[4]), In<float>(in[5]), In<float>(in[6]), In<float>(in[7])};
  }
};

class SquaredReluFunction : public torch::autograd::Function<SquaredReluFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x_, int64_t pool) {
    RECORD_FUNCTION("SquaredRelu", {});
    const Tensor x = x_.contiguous();
    const Tensor out = torch::empty_like(x);
    ForElement(x.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      kernels::SquaredReluForward<Element>(x.numel(), In<Element>(x), Out<Element>(out),
                                           *reinterpret_cast<kernels::ThreadPool*>(pool));
    });
    context->save_for_backward({x});
    context->saved_data["pool"] = pool;
    return out;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor x = context->get_saved_variables()[0];
    const Tensor d_out = gradients[0].contiguous();
    const Tensor d_x = torch::empty_like(x);
    ForElement(x.scalar_type(), [&](auto element) {
      using Element = decltype(element);
      kernels::SquaredReluBackward<Element>(x.numel(), In<Element>(x), In<Element>(d_out),
                                            Out<Element>(d_x), Pool(context));
    });
    return {d_x, Tensor()};
  }
};

int64_t Handle(kernels::ThreadPool& pool) { return reinterpret_cast<int64_t>(&pool); }

}  // namespace

NormShiftMixResult NormShiftMix(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                const Tensor& before, const Tensor& mix, torch::ScalarType products,
                                kernels::ThreadPool& pool) {
  if (HasKernel(x, products)) {
    variable_list out = NormShiftMixFunction::apply(x, weight, bias, OrEmpty(before, x), mix,
                                                    static_cast<int64_t>(products), Handle(pool));
    NormShiftMixResult result;
    result.residual = out.back();
    out.pop_back();
    result.last = out.back();
    out.pop_back();
    result.mixed = std::move(out);
    return result;
  }
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const Tensor z = torch::layer_norm(x, {width}, weight, bias, kLayerNormEps);
  const Tensor first =
      before.defined() ? before.unsqueeze(1) : torch::zeros({batch, 1, width}, z.options());
  const Tensor delta = torch::cat({first, z.narrow(1, 0, tokens - 1)}, 1) - z;
  const Tensor all =
      torch::addcmul(z.unsqueeze(0), delta.unsqueeze(0), mix.view({mix.size(0), 1, 1, width}))
          .to(products);
  return {.mixed = all.unbind(0), .last = z.select(1, tokens - 1), .residual = x};
}

Wkv7Inputs Wkv7Prepare(const Wkv7Products& products, const Wkv7Vectors& vectors, int64_t heads,
                       kernels::ThreadPool& pool) {
  const auto& [r, k, v, w_low, a_low, v_low, v_first] = products;
  const auto& [w0, a0, k_k, k_a, v0] = vectors;
  if (HasKernel(w0, r.scalar_type())) {
    const variable_list out =
        Wkv7PrepareFunction::apply(r, k, v, w_low, a_low, OrEmpty(v_low, r), OrEmpty(v_first, w0),
                                   OrEmpty(v0, w0), w0, a0, k_k, k_a, heads, Handle(pool));
    return {out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7], out[8]};
  }
  const torch::ScalarType type = w0.scalar_type();
  const auto by_head = [&](const Tensor& x) {
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads});
  };
  const Tensor rate = torch::sigmoid(a0 + a_low.to(type));
  const Tensor key = k.to(type);
  Tensor value = v.to(type);
  if (v_first.defined()) {
    const Tensor share = torch::sigmoid(v0 + v_low.to(type));
    value = torch::addcmul(value, v_first.view(value.sizes()) - value, share);
  }
  const Tensor kk = torch::nn::functional::normalize(
      by_head(key * k_k), torch::nn::functional::NormalizeFuncOptions().dim(-1).eps(1e-12));
  Wkv7Inputs inputs = {.r = by_head(r.to(type)),
                       .w_raw = by_head(w0 + w_low.to(type)),
                       .k = by_head(key * (1.0 + (rate - 1.0) * k_a)),
                       .v = by_head(value),
                       .a = -kk,
                       .b = kk * by_head(rate),
                       .finish_r = {},
                       .finish_k = {},
                       .finish_v = {}};
  inputs.finish_r = inputs.r;
  inputs.finish_k = inputs.k;
  inputs.finish_v = inputs.v;
  return inputs;
}

Tensor Wkv7Finish(const Tensor& y, const Wkv7Inputs& inputs, const Tensor& gate, const Tensor& r_k,
                  const Tensor& weight, const Tensor& bias, kernels::ThreadPool& pool) {
  if (HasKernel(y, gate.scalar_type())) {
    return Wkv7FinishFunction::apply(y, inputs.finish_r, inputs.finish_k, inputs.finish_v, gate,
                                     r_k, weight, bias, Handle(pool));
  }
  const Tensor normed = torch::layer_norm(y, {y.size(3)}, {}, {}, kGroupNormEps);
  const Tensor affine = torch::addcmul(bias, normed.view(gate.sizes()), weight);
  const Tensor bonus = (inputs.finish_r * inputs.finish_k * r_k).sum(-1, true) * inputs.finish_v;
  return ((affine + bonus.view(gate.sizes())) * gate.to(y.scalar_type())).to(gate.scalar_type());
}

Tensor SquaredRelu(const Tensor& x, kernels::ThreadPool& pool) {
  constexpr int64_t kGroup = 16;
  const bool has_type = x.scalar_type() == torch::kFloat || x.scalar_type() == torch::kBFloat16;
  if (x.is_cpu() && has_type && x.numel() % kGroup == 0) {
    return SquaredReluFunction::apply(x, Handle(pool));
  }
  return torch::relu(x).square();
}

}  // namespace dreamstate::training
