#include "core/training/loss.h"

#include <vector>

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

ScoredPositions FindScored(const Batch& batch, int first, int rows, torch::Device device) {
  std::vector<int64_t> at, targets, row;
  const int64_t begin = int64_t{first} * batch.tokens;
  for (int64_t i = 0; i < int64_t{rows} * batch.tokens; ++i) {
    if (batch.targets[begin + i] < 0) continue;
    at.push_back(i);
    targets.push_back(batch.targets[begin + i]);
    row.push_back(i / batch.tokens);
  }
  const auto to_device = [device](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kLong).to(device);
  };
  return {.at = to_device(at), .targets = to_device(targets), .row = to_device(row)};
}

Tensor ScoreRows(const Tensor& logits, const ScoredPositions& scored, int rows) {
  const Tensor whole = logits.to(torch::kFloat);
  const Tensor picked =
      torch::log_softmax(whole, -1).gather(1, scored.targets.unsqueeze(1)).squeeze(1);
  const Tensor correct = whole.argmax(1).eq(scored.targets);
  const auto by_row = [&](const Tensor& values) {
    return torch::zeros({rows},
                        torch::TensorOptions().device(logits.device()).dtype(torch::kDouble))
        .index_add_(0, scored.row, values.to(torch::kDouble));
  };
  return torch::stack({by_row(-picked), by_row(torch::ones_like(picked)), by_row(correct)}).cpu();
}

EvaluationResult ResultOf(const Tensor& of_rows) {
  EvaluationResult out;
  const auto values = of_rows.accessor<double, 2>();
  for (int64_t row = 0; row < of_rows.size(1); ++row) {
    out.row_nll.push_back(values[0][row]);
    out.row_scored.push_back(static_cast<int64_t>(values[1][row]));
    out.row_correct.push_back(static_cast<int64_t>(values[2][row]));
    out.nll += out.row_nll.back();
    out.scored += out.row_scored.back();
    out.correct += out.row_correct.back();
  }
  return out;
}

}  // namespace dreamstate::training
