#include "core/diffusion/flow.h"

#include <gtest/gtest.h>

#include <cmath>

namespace dreamstate::diffusion {
namespace {

using torch::Tensor;

DitSizes Small() {
  return {.state_heads = 2,
          .blocks = 1,
          .token_size = 4,
          .width = 32,
          .layers = 2,
          .head_size = 16,
          .mlp = 32,
          .registers = 1,
          .labels = 2,
          .activation_width = 3,
          .text_tokens = 2};
}

TEST(Flow, ASamplesNoiseDoesNotDependOnTheOthers) {
  const DitSizes sizes = Small();
  const Tensor five = SampleNoise(sizes, 7, 0, 5);
  EXPECT_TRUE(torch::equal(SampleNoise(sizes, 7, 3, 1)[0], five[3]));
  EXPECT_FALSE(torch::equal(SampleNoise(sizes, 8, 3, 1)[0], five[3]));
  const Tensor many = SampleNoise(sizes, 1, 0, 4000);
  EXPECT_NEAR(many.mean().item<double>(), 0, 0.02);
  EXPECT_NEAR(many.std().item<double>(), 1, 0.02);
  EXPECT_NEAR(many.pow(4).mean().item<double>(), 3, 0.15);
}

TEST(Flow, LearnsAMixtureAndItsLabels) {
  // Two labels, each with its own pair of points: what is sampled lies at them, both of a label's
  // come, and the mean lies between.
  Dit dit(Small(), torch::kCPU);
  dit.Initialise(1);
  const auto point = [](double a, double b) {
    return torch::full({2, 4}, a) + torch::arange(2).view({2, 1}) * b;
  };
  const Tensor points = torch::stack({point(1, 1), point(-1, 1), point(2, -2), point(-2, -2)});
  torch::manual_seed(1);
  torch::optim::Adam optimiser({dit.values().detach()}, torch::optim::AdamOptions(3e-3));
  optimiser.param_groups()[0].params()[0].mutable_grad() = dit.gradients();
  for (int step = 0; step < 1500; ++step) {
    if (step == 1000) {
      static_cast<torch::optim::AdamOptions&>(optimiser.param_groups()[0].options()).lr(2e-4);
    }
    const Tensor which = torch::randint(0, 4, {64}, torch::kLong);
    const Tensor code = points.index_select(0, which);
    DitCondition condition = DitCondition::None(dit.sizes(), 64, torch::kCPU);
    // Some are not told.
    condition.label =
        torch::where(torch::rand({64}) < 0.1, torch::full({64}, int64_t{2}), which.div(2, "floor"));
    dit.gradients().zero_();
    FlowLoss(dit, code, torch::randn_like(code), DrawTimes({}, 64, torch::kCPU), condition,
             torch::kFloat)
        .mean()
        .backward();
    optimiser.step();
  }
  const Tensor noise = SampleNoise(dit.sizes(), 3, 0, 200);
  for (int64_t label = 0; label < 2; ++label) {
    DitCondition condition = DitCondition::None(dit.sizes(), 200, torch::kCPU);
    condition.label.fill_(label);
    const Tensor samples = Sample(dit, noise, condition, {.steps = 10});
    const Tensor distance =
        (samples.unsqueeze(1) - points.unsqueeze(0)).square().mean({2, 3}).sqrt();  // [200][4]
    const auto [nearest, which] = distance.min(1);
    EXPECT_GT((nearest < 0.3).to(torch::kDouble).mean().item<double>(), 0.9);
    const double share = which.eq(2 * label).to(torch::kDouble).mean().item<double>();
    EXPECT_GT(share, 0.3);
    EXPECT_LT(share, 0.7);
    EXPECT_GT(share + which.eq(2 * label + 1).to(torch::kDouble).mean().item<double>(), 0.97);
    const Tensor mean = Sample(dit, noise, condition, {.steps = 1});
    const Tensor between = points.narrow(0, 2 * label, 2).mean(0);
    EXPECT_LT((mean - between).square().mean().sqrt().item<double>(), 0.4);
  }
}

TEST(Flow, GuidanceOneIsNoneAndStepsCanBeStopped) {
  Dit dit(Small(), torch::kCPU);
  dit.Initialise(1);
  {
    const torch::NoGradGuard no_gradients;
    torch::manual_seed(5);
    dit.values().add_(torch::randn_like(dit.values()) * 0.1);
  }
  const Tensor noise = SampleNoise(dit.sizes(), 3, 0, 2);
  DitCondition condition = DitCondition::None(dit.sizes(), 2, torch::kCPU);
  condition.label.fill_(1);
  const Tensor plain = Sample(dit, noise, condition, {.steps = 4});
  EXPECT_TRUE(torch::equal(Sample(dit, noise, condition, {.steps = 4, .guidance = 1.0}), plain));
  EXPECT_FALSE(torch::equal(Sample(dit, noise, condition, {.steps = 4, .guidance = 2.0}), plain));
  // Guidance outside of its interval is none.
  EXPECT_TRUE(torch::equal(
      Sample(dit, noise, condition, {.steps = 4, .guidance = 2.0, .guidance_from = 2}), plain));
  // Without a condition there is nothing to lean towards.
  const DitCondition none = DitCondition::None(dit.sizes(), 2, torch::kCPU);
  EXPECT_LT((Sample(dit, noise, none, {.steps = 4, .guidance = 3.0}) -
             Sample(dit, noise, none, {.steps = 4}))
                .abs()
                .max()
                .item<float>(),
            1e-5);
  int steps = 0;
  Sample(dit, noise, condition, {.steps = 9, .on_step = [&](int) { return ++steps < 3; }});
  EXPECT_EQ(steps, 3);
}

}  // namespace
}  // namespace dreamstate::diffusion
