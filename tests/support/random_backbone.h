// A backbone with random weights of any sizes, as a tensor set with official names.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/rwkv/tensor_shapes.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::testing {

// L2 D128 H2 N64 V50 F320, all ranks different.
inline rwkv::Config SmallConfig() {
  rwkv::Config config;
  config.layers = 2;
  config.width = 128;
  config.heads = 2;
  config.head_size = 64;
  config.vocab = 50;
  config.ffn_width = 320;
  config.rank_decay = 24;
  config.rank_iclr = 17;
  config.rank_value = 33;
  config.rank_gate = 40;
  return config;
}

inline tensors::TensorSet RandomBackbone(const rwkv::Config& config, uint32_t seed) {
  std::mt19937 bits(seed);
  const auto uniform = [&] { return static_cast<float>(bits()) / 4294967296.0f; };
  // Sum of uniforms: near enough to a Gaussian, and the same on every platform.
  const auto gaussian = [&] { return uniform() + uniform() + uniform() + uniform() - 2.0f; };
  auto storage = std::make_shared<std::vector<std::vector<float>>>();
  std::vector<tensors::Tensor> list;
  for (const rwkv::TensorShape& entry : rwkv::ExpectedTensors(config)) {
    int64_t elements = 1;
    for (const int64_t size : entry.shape) elements *= size;
    std::vector<float> values(elements);
    const bool scale = absl::EndsWith(entry.name, ".weight") && entry.shape.size() == 1;
    const bool mix = absl::StrContains(entry.name, ".x_") || absl::StrContains(entry.name, ".k_");
    for (float& value : values) {
      if (scale) {
        value = 0.75f + 0.5f * uniform();
      } else if (mix) {
        value = uniform();
      } else if (entry.shape.size() == 1) {
        value = 0.3f * gaussian();
      } else {
        value = gaussian() / std::sqrt(static_cast<float>(config.width));
      }
    }
    storage->push_back(std::move(values));
    list.push_back({entry.name, tensors::DType::kF32, entry.shape,
                    std::as_bytes(std::span<const float>(storage->back()))});
  }
  return tensors::TensorSet::Make("random backbone", std::move(list), {}, storage).value();
}

}  // namespace dreamstate::testing
