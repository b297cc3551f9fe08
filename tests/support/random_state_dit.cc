#include "tests/support/random_state_dit.h"

#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/draws.h"
#include "core/diffusion/dit.h"
#include "core/diffusion/state_generator.h"

namespace dreamstate::testing {
namespace {

constexpr int64_t kStates = 40;

// Copies of tensors that outlive what they point into.
struct Kept {
  std::vector<std::string> bytes;
  std::vector<tensors::Tensor> list;

  void Add(const std::vector<tensors::Tensor>& tensors) {
    for (tensors::Tensor tensor : tensors) {
      bytes.emplace_back(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
      list.push_back(std::move(tensor));
    }
  }
  tensors::TensorSet Make() {
    for (size_t i = 0; i < list.size(); ++i) {
      list[i].data = std::as_bytes(std::span(bytes[i].data(), bytes[i].size()));
    }
    return tensors::TensorSet::Make("random state DiT", list, {}, nullptr).value();
  }
};

}  // namespace

tensors::TensorSet RandomStateDit(const rwkv::Config& config,
                                  const RandomStateDitOptions& options) {
  const state::Shape shape = state::Shape::Of(config);
  std::vector<float> wkv(static_cast<size_t>(kStates * shape.wkv_elements()));
  std::vector<float> shift(static_cast<size_t>(kStates * shape.shift_elements()));
  Draws draws(options.seed, 1, 0);
  for (float& value : wkv) value = static_cast<float>(draws.Uniform() - 0.5);
  for (float& value : shift) value = static_cast<float>(draws.Uniform() - 0.5);
  const auto codec = diffusion::StateCodec::Fit(shape, wkv, shift).value();
  diffusion::Dit dit({.state_heads = shape.layers * shape.heads,
                      .blocks = codec.blocks(),
                      .token_size = codec.token_size(),
                      .width = 32,
                      .layers = 1,
                      .head_size = 16,
                      .mlp = 32,
                      .registers = 1,
                      .labels = options.labels,
                      .activation_width = options.taps * config.width,
                      .text_tokens = 2},
                     torch::kCPU);
  dit.Initialise(options.seed);
  const torch::NoGradGuard no_gradients;
  torch::manual_seed(static_cast<int64_t>(options.seed));
  dit.values().add_(torch::randn_like(dit.values()) * 0.05);
  auto kept = std::make_shared<Kept>();
  std::vector<std::string> bytes;
  kept->Add(dit.Export(dit.values(), &bytes));
  kept->Add(codec.ToTensors());
  if (options.gate) {
    const auto generator = diffusion::StateGenerator::Load(kept->Make(), /*bf16=*/false).value();
    std::vector<double> energy;
    for (int64_t i = 0; i < kStates; ++i) {
      state::State state = state::State::Empty(shape);
      std::copy_n(wkv.begin() + i * shape.wkv_elements(), shape.wkv_elements(), state.wkv.begin());
      const state::State* const one[] = {&state};
      energy.push_back(generator->Energy(one).value()[0]);
    }
    kept->Add(diffusion::SafetyGate::Fit(shape, wkv, energy).value().ToTensors());
  }
  tensors::TensorSet made = kept->Make();
  return tensors::TensorSet::Make(made.source(), made.tensors(), {}, kept).value();
}

}  // namespace dreamstate::testing
