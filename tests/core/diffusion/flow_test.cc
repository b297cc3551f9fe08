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

// One that learned two labels, each with a pair of points: [4][2][4], a label's points one after
// the other. Both tokens of a point say which it is.
struct Mixture {
  Dit dit{Small(), torch::kCPU};
  Tensor points;
};
const Mixture& Learned() {
  static const Mixture& mixture = *[] {
    // So small a network only waits for a second thread.
    torch::set_num_threads(1);
    auto* const made = new Mixture;
    made->dit.Initialise(1);
    const auto point = [](double a, double b) {
      return torch::full({2, 4}, a) + torch::arange(2).view({2, 1}) * b;
    };
    made->points = torch::stack({point(1, 1), point(-1, 1), point(2, -2), point(-2, -2)});
    torch::manual_seed(1);
    torch::optim::Adam optimiser({made->dit.values().detach()}, torch::optim::AdamOptions(3e-3));
    optimiser.param_groups()[0].params()[0].mutable_grad() = made->dit.gradients();
    for (int step = 0; step < 1500; ++step) {
      if (step == 1000) {
        static_cast<torch::optim::AdamOptions&>(optimiser.param_groups()[0].options()).lr(2e-4);
      }
      const Tensor which = torch::randint(0, 4, {64}, torch::kLong);
      const Tensor code = made->points.index_select(0, which);
      DitCondition condition = DitCondition::None(made->dit.sizes(), 64, torch::kCPU);
      // Some are not told.
      condition.label = torch::where(torch::rand({64}) < 0.1, torch::full({64}, int64_t{2}),
                                     which.div(2, "floor"));
      made->dit.gradients().zero_();
      FlowLoss(made->dit, code, torch::randn_like(code), DrawTimes({}, 64, torch::kCPU), condition,
               torch::kFloat)
          .mean()
          .backward();
      optimiser.step();
    }
    return made;
  }();
  return mixture;
}

std::vector<WeightedCondition> Labelled(int64_t samples,
                                        const std::vector<std::pair<int64_t, double>>& labels) {
  std::vector<WeightedCondition> list;
  for (const auto& [label, weight] : labels) {
    list.push_back({DitCondition::None(Small(), samples, torch::kCPU),
                    torch::full({samples}, weight, torch::kFloat)});
    list.back().condition.label.fill_(label);
  }
  return list;
}

// Which point each sample is nearest to, and how near.
std::pair<Tensor, Tensor> Nearest(const Tensor& samples) {
  const Tensor distance = (samples.unsqueeze(1) - Learned().points.unsqueeze(0))
                              .square()
                              .mean({2, 3})
                              .sqrt();  // [B][4]
  const auto [near, which] = distance.min(1);
  return {which, near};
}
double Share(const Tensor& yes) { return yes.to(torch::kDouble).mean().item<double>(); }

TEST(Flow, LearnsAMixtureAndItsLabels) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 3, 0, 200);
  for (int64_t label = 0; label < 2; ++label) {
    const auto condition = Labelled(200, {{label, 1.0}});
    const auto [which, near] = Nearest(Sample(dit, noise, condition, {.steps = 10}));
    EXPECT_GT(Share(near < 0.3), 0.9);
    // Both of a label's points come, and no others.
    EXPECT_NEAR(Share(which.eq(2 * label)), 0.5, 0.2);
    EXPECT_GT(Share(which.div(2, "floor").eq(label)), 0.97);
    // The mean lies between.
    const Tensor mean = Sample(dit, noise, condition, {.steps = 1});
    const Tensor between = Learned().points.narrow(0, 2 * label, 2).mean(0);
    EXPECT_LT((mean - between).square().mean().sqrt().item<double>(), 0.4);
  }
}

TEST(Flow, ANoisedCodeComesBackToWhereItWas) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 5, 0, 200);
  const Tensor which = torch::arange(200).remainder(4);
  const Tensor code = Learned().points.index_select(0, which) + 0.5;
  const Tensor repaired = Sample(dit, noise, {}, {.steps = 10, .from_time = 0.7, .code = code});
  const auto [nearest, near] = Nearest(repaired);
  EXPECT_GT(Share(nearest.eq(which)), 0.95);
  // It is nearer than it was.
  EXPECT_LT(near.mean().item<double>(), 0.35);
}

TEST(Flow, WhatIsKnownStaysAndTheRestFitsIt) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 6, 0, 200);
  const Tensor which = torch::arange(200).remainder(4);
  const Tensor code = Learned().points.index_select(0, which);
  const Tensor known = torch::zeros({200, 2}, torch::kBool);
  known.select(1, 0).fill_(true);
  const Tensor filled = Sample(dit, noise, {}, {.steps = 20, .code = code, .known = known});
  EXPECT_TRUE(torch::equal(filled.select(1, 0), code.select(1, 0)));
  // By chance a quarter would fit.
  EXPECT_GT(Share(Nearest(filled).first.eq(which)), 0.5);
}

TEST(Flow, TranslationLeadsFromOneLabelsPointsToTheOthers) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 8, 0, 100);
  const Tensor code = Learned().points.narrow(0, 0, 2).repeat({50, 1, 1});  // of label 0
  const auto moved = [&](double from_time) {
    return Translate(dit, code, noise, Labelled(100, {{0, 1.0}}), Labelled(100, {{1, 1.0}}),
                     {.steps = 20, .from_time = from_time});
  };
  const auto [which, near] = Nearest(moved(0));
  EXPECT_GT(Share(which.ge(2)), 0.9);
  // One that begins late changes little.
  EXPECT_LT((moved(0.95) - code).square().mean().item<double>(),
            (moved(0) - code).square().mean().item<double>() / 4);
}

TEST(Flow, APathAlongTheFlowLeadsFromOneEndToTheOtherThroughWhatIsKnown) {
  const Dit& dit = Learned().dit;
  const Tensor first = Learned().points.narrow(0, 0, 1), second = Learned().points.narrow(0, 3, 1);
  const Tensor path = AlongFlow(dit, first, second, {0, 0.25, 0.5, 0.75, 1}, {.steps = 20});
  const auto [which, near] = Nearest(path);
  EXPECT_EQ(which[0].item<int64_t>(), 0);
  EXPECT_EQ(which[4].item<int64_t>(), 3);
  // Halfway on the straight line lies far from every point.
  const double straight = Nearest((first + second) / 2).second.item<double>();
  EXPECT_LT(near.max().item<double>(), straight);
}

TEST(Flow, EnergyIsLowWhereTheNetworkLeavesCodesAlone) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 9, 0, 16);
  const Tensor on = Energy(dit, Learned().points, noise, torch::kFloat);
  const Tensor off = Energy(dit, Learned().points * 3, noise, torch::kFloat);
  EXPECT_TRUE(on.lt(off).all().item<bool>());
}

TEST(Flow, WeightsMixPredictions) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 7, 0, 3);
  const auto mean = [&](const std::vector<std::pair<int64_t, double>>& labels) {
    return Sample(dit, noise, Labelled(3, labels), {.steps = 1});
  };
  const Tensor none = Sample(dit, noise, {}, {.steps = 1}), a = mean({{0, 1.0}}),
               b = mean({{1, 1.0}});
  const auto difference = [](const Tensor& x, const Tensor& y) {
    return (x - y).abs().max().item<float>();
  };
  EXPECT_LT(difference(mean({{0, 0.25}, {1, 0.75}}), 0.25 * a + 0.75 * b), 1e-5);
  EXPECT_LT(difference(mean({{0, -1.0}}), none - (a - none)), 1e-5);
  EXPECT_LT(difference(mean({{0, 3.0}}), none + 3 * (a - none)), 1e-5);
}

TEST(Flow, GuidanceHasAnIntervalAndStepsCanBeStopped) {
  const Dit& dit = Learned().dit;
  const Tensor noise = SampleNoise(dit.sizes(), 3, 0, 2);
  const auto plain = Sample(dit, noise, Labelled(2, {{1, 1.0}}), {.steps = 4});
  const auto guided = Labelled(2, {{1, 2.0}});
  EXPECT_FALSE(torch::equal(Sample(dit, noise, guided, {.steps = 4}), plain));
  // Guidance outside of its interval is none.
  EXPECT_LT((Sample(dit, noise, guided, {.steps = 4, .guidance_from = 2}) - plain)
                .abs()
                .max()
                .item<float>(),
            1e-4);
  int steps = 0;
  Sample(dit, noise, guided, {.steps = 9, .on_step = [&](int) { return ++steps < 3; }});
  EXPECT_EQ(steps, 3);
}

}  // namespace
}  // namespace dreamstate::diffusion
