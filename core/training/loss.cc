#include "core/training/loss.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kL2Wrap = 1e-4;

class CrossEntropyFunction : public torch::autograd::Function<CrossEntropyFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& logits, const Tensor& targets,
                        double scored) {
    const auto type = logits.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
    const Tensor log_p = torch::log_softmax(logits, -1, type);
    const Tensor is_scored = targets.ge(0);
    const Tensor rows = targets.clamp_min(0).unsqueeze(1);
    const Tensor picked = log_p.gather(1, rows).squeeze(1);
    context->save_for_backward({logits, log_p, rows, is_scored});
    context->saved_data["scored"] = scored;
    return torch::where(is_scored, -picked, torch::zeros_like(picked)).sum() / scored;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& logits = saved[0];
    const Tensor& log_p = saved[1];
    const double scored = context->saved_data["scored"].toDouble();
    Tensor gradient = log_p.exp();
    gradient.scatter_add_(1, saved[2], torch::full_like(saved[2], -1.0, log_p.options()));
    // As the official code does, the largest logit as it is held: bf16 in mixed precision.
    const auto [largest, index] = logits.max(1, /*keepdim=*/true);
    gradient.scatter_add_(1, index, largest.to(log_p.scalar_type()) * kL2Wrap);
    gradient.mul_(saved[3].unsqueeze(1).to(log_p.scalar_type()) * (gradients[0] / scored));
    return {gradient.to(logits.scalar_type()), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor CrossEntropy(const Tensor& logits, const Tensor& targets, double scored) {
  return CrossEntropyFunction::apply(logits, targets, scored);
}

}  // namespace dreamstate::training
