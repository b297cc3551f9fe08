#include "core/training/wkv7.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <vector>

#include "kernels/wkv7_gradient/wkv7_gradient.h"
#if DREAMSTATE_CUDA && DREAMSTATE_TORCH_CUDA
#include <c10/cuda/CUDAStream.h>

#include "kernels/wkv7_gradient/wkv7_gradient_cuda.h"
#endif

namespace dreamstate::training {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kDecayScale = -0.60653065971263342360;  // -exp(-1/2)

kernels::Wkv7TrainingShape ShapeOf(const Tensor& r) {
  return {.batch = static_cast<int>(r.size(0)),
          .tokens = static_cast<int>(r.size(1)),
          .heads = static_cast<int>(r.size(2)),
          .head_size = static_cast<int>(r.size(3))};
}

const float* Data(const Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}
float* MutableData(const Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<float>() : nullptr;
}
Tensor Contiguous(const Tensor& tensor) { return tensor.defined() ? tensor.contiguous() : tensor; }

void Forward(const kernels::Wkv7TrainingShape& shape, const kernels::Wkv7TrainingInputs& inputs,
             const Tensor& y, const Tensor& final_state, const kernels::Wkv7Kept* kept,
             kernels::ThreadPool& pool) {
#if DREAMSTATE_CUDA && DREAMSTATE_TORCH_CUDA
  if (y.is_cuda()) {
    const int error = kernels::Wkv7TrainingForwardCuda(
        shape, inputs, MutableData(y), MutableData(final_state), kept,
        c10::cuda::getCurrentCUDAStream(y.get_device()).stream());
    TORCH_CHECK(error == 0, "WKV-7 on the GPU failed with CUDA error ", error);
    return;
  }
#endif
  kernels::Wkv7TrainingForward(shape, inputs, MutableData(y), MutableData(final_state), kept, pool);
}

void Backward(const kernels::Wkv7TrainingShape& shape, const kernels::Wkv7TrainingInputs& inputs,
              const kernels::Wkv7Kept& kept, const Tensor& dy, const Tensor& d_final_state,
              const kernels::Wkv7TrainingGradients& gradients, kernels::ThreadPool& pool) {
#if DREAMSTATE_CUDA && DREAMSTATE_TORCH_CUDA
  if (dy.is_cuda()) {
    const int error = kernels::Wkv7TrainingBackwardCuda(
        shape, inputs, kept, Data(dy), Data(d_final_state), gradients,
        c10::cuda::getCurrentCUDAStream(dy.get_device()).stream());
    TORCH_CHECK(error == 0, "the gradient of WKV-7 on the GPU failed with CUDA error ", error);
    return;
  }
#endif
  kernels::Wkv7TrainingBackward(shape, inputs, kept, Data(dy), Data(d_final_state), gradients,
                                pool);
}

bool HasKernel(const Tensor& r) {
  if (r.scalar_type() != torch::kFloat) return false;
  if (r.is_cpu()) {
    return r.size(3) % 16 == 0 && r.size(3) <= kernels::kWkv7TrainingMaxHeadSize;
  }
#if DREAMSTATE_CUDA && DREAMSTATE_TORCH_CUDA
  return r.is_cuda() && (r.size(3) == 16 || r.size(3) == 32 || r.size(3) == 64);
#else
  return false;
#endif
}

class Wkv7Function : public torch::autograd::Function<Wkv7Function> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& r_, const Tensor& w_raw_,
                               const Tensor& k_, const Tensor& v_, const Tensor& a_,
                               const Tensor& b_, const Tensor& initial_or_empty, int64_t pool) {
    RECORD_FUNCTION("Wkv7", {});
    const Tensor initial_ = initial_or_empty.numel() > 0 ? initial_or_empty : Tensor();
    const Tensor r = r_.contiguous(), w_raw = w_raw_.contiguous(), k = k_.contiguous(),
                 v = v_.contiguous(), a = a_.contiguous(), b = b_.contiguous(),
                 initial = Contiguous(initial_);
    const kernels::Wkv7TrainingShape shape = ShapeOf(r);
    const Tensor y = torch::empty_like(r);
    const Tensor final_state =
        torch::empty({r.size(0), r.size(2), r.size(3), r.size(3)}, r.options());
    const kernels::Wkv7TrainingInputs inputs = {Data(r), Data(w_raw), Data(k),      Data(v),
                                                Data(a), Data(b),     Data(initial)};
    auto& workers = *reinterpret_cast<kernels::ThreadPool*>(pool);
    // autograd runs forward() with gradients off: what asks for them says that backward may follow.
    bool wanted = false;
    for (const Tensor* input : {&r_, &w_raw_, &k_, &v_, &a_, &b_, &initial_}) {
      wanted = wanted || (input->defined() && input->requires_grad());
    }
    if (!wanted) {
      Forward(shape, inputs, y, final_state, nullptr, workers);
      return {y, final_state};
    }
    const Tensor states =
        torch::empty({static_cast<int64_t>(kernels::Wkv7KeptStateFloats(shape))}, r.options());
    const Tensor sa = torch::empty_like(r);
    const kernels::Wkv7Kept kept = {MutableData(states), MutableData(sa)};
    Forward(shape, inputs, y, final_state, &kept, workers);
    context->save_for_backward({r, w_raw, k, v, a, b, initial, states, sa});
    context->saved_data["pool"] = pool;
    context->set_materialize_grads(false);
    return {y, final_state};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& r = saved[0];
    const Tensor& initial = saved[6];
    const Tensor dy = gradients[0].defined() ? gradients[0].contiguous() : torch::zeros_like(r);
    const Tensor d_final = Contiguous(gradients[1]);
    variable_list out;
    for (int i = 0; i < 6; ++i) out.push_back(torch::empty_like(r));
    out.push_back(initial.defined() ? torch::empty_like(initial) : Tensor());
    const kernels::Wkv7TrainingInputs inputs = {Data(saved[0]), Data(saved[1]), Data(saved[2]),
                                                Data(saved[3]), Data(saved[4]), Data(saved[5]),
                                                Data(initial)};
    Backward(ShapeOf(r), inputs, {MutableData(saved[7]), MutableData(saved[8])}, dy, d_final,
             {MutableData(out[0]), MutableData(out[1]), MutableData(out[2]), MutableData(out[3]),
              MutableData(out[4]), MutableData(out[5]), MutableData(out[6])},
             *reinterpret_cast<kernels::ThreadPool*>(context->saved_data["pool"].toInt()));
    out.push_back(Tensor());  // the pool
    return out;
  }
};

}  // namespace

Wkv7Result Wkv7(const Tensor& r, const Tensor& w_raw, const Tensor& k, const Tensor& v,
                const Tensor& a, const Tensor& b, const Tensor& initial_state,
                kernels::ThreadPool& pool) {
  if (!HasKernel(r)) return Wkv7Chunked(r, w_raw, k, v, a, b, initial_state);
  // torch's functions take no undefined inputs: an empty one stands for it.
  const Tensor initial = initial_state.defined() ? initial_state : torch::empty({0}, r.options());
  const variable_list results =
      Wkv7Function::apply(r, w_raw, k, v, a, b, initial, reinterpret_cast<int64_t>(&pool));
  return {.y = results[0], .final_state = results[1]};
}

Wkv7Result Wkv7Chunked(const Tensor& r, const Tensor& w_raw, const Tensor& k, const Tensor& v,
                       const Tensor& a, const Tensor& b, const Tensor& initial_state) {
  constexpr int64_t kChunk = 16;  // 1 / P stays below 1.7e4
  const int64_t batch = r.size(0), tokens = r.size(1), heads = r.size(2), n = r.size(3);
  // [B][H][T][N]
  const auto by_head = [](const Tensor& x) { return x.transpose(1, 2); };
  const Tensor log_decay = by_head(torch::sigmoid(w_raw) * kDecayScale);
  const Tensor r_h = by_head(r), k_h = by_head(k), v_h = by_head(v), a_h = by_head(a),
               b_h = by_head(b);
  Tensor state =
      initial_state.defined() ? initial_state : torch::zeros({batch, heads, n, n}, r.options());
  std::vector<Tensor> ys;
  for (int64_t first = 0; first < tokens; first += kChunk) {
    const int64_t count = std::min(kChunk, tokens - first);
    const auto piece = [first, count](const Tensor& x) { return x.narrow(2, first, count); };
    const Tensor step = piece(log_decay);
    const Tensor inclusive = step.cumsum(2);
    const Tensor p = inclusive.exp();
    const Tensor exclusive = (inclusive - step).exp();
    const Tensor last = p.narrow(2, count - 1, 1);  // [B][H][1][N]
    const Tensor rq = piece(r_h) * p, aq = piece(a_h) * exclusive, ki = piece(k_h) / p,
                 bi = piece(b_h) / p, values = piece(v_h);
    const Tensor aab = aq.matmul(bi.transpose(2, 3)).tril(-1);
    const Tensor aak = aq.matmul(ki.transpose(2, 3)).tril(-1);
    const Tensor qk = rq.matmul(ki.transpose(2, 3)).tril();
    const Tensor qb = rq.matmul(bi.transpose(2, 3)).tril();
    const Tensor state_t = state.transpose(2, 3);
    const Tensor eye = torch::eye(count, r.options());
    const Tensor u = torch::linalg_solve_triangular(
        eye - aab, aq.matmul(state_t) + aak.matmul(values), /*upper=*/false, /*left=*/true,
        /*unitriangular=*/true);
    ys.push_back(rq.matmul(state_t) + qk.matmul(values) + qb.matmul(u));
    state = state * last + values.transpose(2, 3).matmul(ki * last) +
            u.transpose(2, 3).matmul(bi * last);
  }
  return {.y = torch::cat(ys, 2).transpose(1, 2), .final_state = state};
}

}  // namespace dreamstate::training
