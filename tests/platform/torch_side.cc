#include "tests/platform/torch_side.h"

#include <torch/torch.h>

namespace dreamstate::platform {

Fit FitLinearModule(int steps) {
  torch::manual_seed(7);
  torch::nn::Linear module(32, 32);
  torch::optim::SGD optimizer(module->parameters(), /*lr=*/0.5);
  const torch::Tensor target = torch::randn({32, 32});
  const torch::Tensor x = torch::randn({256, 32});
  const torch::Tensor y = x.matmul(target);
  Fit fit{};
  for (int step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    torch::Tensor loss = torch::mse_loss(module->forward(x), y);
    loss.backward();
    optimizer.step();
    fit.last_loss = loss.item<double>();
    if (step == 0) fit.first_loss = fit.last_loss;
  }
  return fit;
}

double GradientError() {
  torch::manual_seed(11);
  const torch::Tensor a = torch::randn({63, 127}, torch::kDouble).requires_grad_();
  const torch::Tensor b = torch::randn({127, 65}, torch::kDouble);
  a.matmul(b).pow(2).sum().backward();
  const torch::Tensor expected = 2 * a.detach().matmul(b).matmul(b.t());
  return (a.grad() - expected).abs().max().item<double>();
}

}  // namespace dreamstate::platform
