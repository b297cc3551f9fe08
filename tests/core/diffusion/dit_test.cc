#include "core/diffusion/dit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dreamstate::diffusion {
namespace {

using ::testing::HasSubstr;
using torch::Tensor;

DitSizes Small() {
  return {.state_heads = 3,
          .blocks = 2,
          .token_size = 9,
          .width = 32,
          .layers = 2,
          .head_size = 16,
          .mlp = 24,
          .registers = 2,
          .labels = 4,
          .activation_width = 6,
          .text_tokens = 3};
}

// One that was trained: nothing of it is zero.
std::unique_ptr<Dit> Trained() {
  auto dit = std::make_unique<Dit>(Small(), torch::kCPU);
  dit->Initialise(1);
  const torch::NoGradGuard no_gradients;
  torch::manual_seed(2);
  dit->values().add_(torch::randn_like(dit->values()) * 0.1);
  return dit;
}

DitCondition Conditions(std::vector<int64_t> labels, std::vector<int64_t> lengths) {
  torch::manual_seed(3);
  return {.label = torch::tensor(labels, torch::kLong),
          .text = torch::randn({static_cast<int64_t>(labels.size()), 5, 6}),
          .text_length = torch::tensor(lengths, torch::kLong)};
}

Tensor Noised(int64_t samples) {
  torch::manual_seed(4);
  return torch::randn({samples, 6, 9});
}

TEST(Dit, ANewOnePredictsTheMean) {
  Dit dit(Small(), torch::kCPU);
  dit.Initialise(1);
  const Tensor out = dit.Forward(Noised(2), torch::tensor({0.1f, 0.9f}), Conditions({0, 4}, {5, 0}),
                                 torch::kFloat);
  EXPECT_EQ(out.sizes(), torch::IntArrayRef({2, 6, 9}));
  EXPECT_EQ(out.abs().max().item<float>(), 0);
}

TEST(Dit, EverySampleIsByItself) {
  const auto dit = Trained();
  const torch::NoGradGuard no_gradients;
  const Tensor z = Noised(3), t = torch::tensor({0.2f, 0.5f, 0.8f});
  const DitCondition all = Conditions({0, 2, 4}, {5, 2, 0});
  const Tensor together = dit->Forward(z, t, all, torch::kFloat);
  for (int64_t i = 0; i < 3; ++i) {
    const DitCondition one = {.label = all.label.narrow(0, i, 1),
                              .text = all.text.narrow(0, i, 1),
                              .text_length = all.text_length.narrow(0, i, 1)};
    const Tensor alone = dit->Forward(z.narrow(0, i, 1), t.narrow(0, i, 1), one, torch::kFloat);
    EXPECT_LT((alone[0] - together[i]).abs().max().item<float>(), 1e-5) << i;
  }
}

TEST(Dit, WhatItIsToldMatters) {
  const auto dit = Trained();
  const torch::NoGradGuard no_gradients;
  const Tensor z = Noised(1);
  const auto predict = [&](float time, int64_t label, int64_t length) {
    return dit->Forward(z, torch::tensor({time}), Conditions({label}, {length}), torch::kFloat);
  };
  const Tensor reference = predict(0.3f, 1, 3);
  const auto differs = [&](const Tensor& other) {
    return (reference - other).abs().max().item<float>() > 1e-4;
  };
  EXPECT_TRUE(differs(predict(0.4f, 1, 3)));
  EXPECT_TRUE(differs(predict(0.3f, 2, 3)));
  EXPECT_TRUE(differs(predict(0.3f, 1, 4)));
  EXPECT_TRUE(differs(predict(0.3f, 1, 0)));
  // What lies behind a text's length does not.
  DitCondition changed = Conditions({1}, {3});
  changed.text.narrow(1, 3, 2).fill_(7);
  EXPECT_FALSE(differs(dit->Forward(z, torch::tensor({0.3f}), changed, torch::kFloat)));
  // No text is what no text of all is.
  const DitCondition none = {.label = torch::tensor({int64_t{1}}),
                             .text = {},
                             .text_length = torch::zeros({1}, torch::kLong)};
  EXPECT_LT((dit->Forward(z, torch::tensor({0.3f}), none, torch::kFloat) - predict(0.3f, 1, 0))
                .abs()
                .max()
                .item<float>(),
            1e-5);
}

TEST(Dit, EveryParameterHasAGradient) {
  const auto dit = Trained();
  dit->Forward(Noised(4), torch::tensor({0.1f, 0.4f, 0.7f, 0.9f}),
               Conditions({0, 1, 2, 4}, {5, 4, 1, 0}), torch::kFloat)
      .square()
      .sum()
      .backward();
  std::vector<std::string> bytes;
  int64_t begin = 0;
  for (const tensors::Tensor& tensor : dit->Export(dit->values(), &bytes)) {
    const Tensor part = dit->gradients().narrow(0, begin, tensor.elements());
    begin += tensor.elements();
    EXPECT_GT(part.abs().max().item<float>(), 0) << tensor.name;
  }
  EXPECT_EQ(begin, dit->values().numel());
}

TEST(Dit, ExportedAndLoadedItIsTheSameToBf16) {
  const auto dit = Trained();
  std::vector<std::string> bytes;
  const auto list = dit->Export(dit->values(), &bytes);
  const auto set = tensors::TensorSet::Make("dit", list, {}, nullptr).value();
  const auto again = Dit::Load(set, torch::kCPU).value();
  EXPECT_TRUE(torch::equal(again->values(), dit->values().to(torch::kBFloat16).to(torch::kFloat)));
  EXPECT_EQ(again->sizes().layers, 2);
  EXPECT_EQ(again->sizes().labels, 4);
  for (size_t missing = 0; missing < list.size(); ++missing) {
    std::vector<tensors::Tensor> rest = list;
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(missing));
    const auto broken = tensors::TensorSet::Make("dit", rest, {}, nullptr).value();
    EXPECT_FALSE(Dit::Load(broken, torch::kCPU).ok()) << list[missing].name;
  }
}

TEST(Dit, SizesThatMakeNoSenseAreNamed) {
  const auto message = [](auto change) {
    DitSizes sizes = Small();
    change(sizes);
    return std::string(CheckSizes(sizes).message());
  };
  EXPECT_THAT(message([](DitSizes& s) { s.width = 40; }), HasSubstr("multiple of head_size 16"));
  EXPECT_THAT(message([](DitSizes& s) { s.blocks = 5; }), HasSubstr("blocks: expected 1 to 4"));
  EXPECT_THAT(message([](DitSizes& s) { s.layers = 0; }), HasSubstr("layers"));
}

}  // namespace
}  // namespace dreamstate::diffusion
