// A backbone made by hand whose state is worth something that is known: it counts the tokens that
// it has read and predicts each in proportion to how far its count is above the mean. So a state of
// a text with the same tokens helps, one of other tokens harms, averages know what documents have
// in common, and shuffled entries know nothing.
//
// L1 D64 H1 N64, byte-level. Each known letter has a channel of its own; channel 63 is constant 1.
// The key and the receptance are made of that constant, the value is the letter's channel, nothing
// decays: column 0 of the state is the sum of what was read, and the only one that is read out; the
// others are larger, so that entries in the wrong places do harm. All other bytes are never
// predicted, and leave no trace.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rwkv/tensor_shapes.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::testing {

inline constexpr std::string_view kKnownLetters = "abcdefghijklmnopqrstuvwxyzABCDEF";

inline tensors::TensorSet RememberingBackbone() {
  rwkv::Config config;
  config.layers = 1;
  config.width = config.head_size = config.ffn_width = 64;
  config.heads = 1;
  config.vocab = 256;
  config.rank_decay = config.rank_iclr = config.rank_gate = 1;
  constexpr int kConstant = 63;  // the channel
  auto storage = std::make_shared<std::vector<std::vector<float>>>();
  std::vector<tensors::Tensor> list;
  for (const rwkv::TensorShape& entry : rwkv::ExpectedTensors(config)) {
    int64_t elements = 1;
    for (const int64_t size : entry.shape) elements *= size;
    const int64_t columns = entry.shape.back();
    std::vector<float> values(elements);
    const auto at = [&](int64_t row, int64_t column) -> float& {
      return values[row * columns + column];
    };
    const auto all = [&](float value) { values.assign(values.size(), value); };
    std::string_view name = entry.name;
    if (name.starts_with("blocks.0.")) name.remove_prefix(std::string_view("blocks.0.").size());
    if (name == "emb.weight") {
      for (size_t i = 0; i < kKnownLetters.size(); ++i) at(kKnownLetters[i], i) = 1;
    } else if (name == "ln0.weight") {
      all(0.1f);  // the last letter alone says little
    } else if (name == "ln1.weight" || name == "ln_out.weight") {
      all(1);
      values[kConstant] = 0;
    } else if (name == "ln1.bias" || name == "ln_out.bias") {
      values[kConstant] = 1;
    } else if (name == "att.ln_x.weight" || name == "att.g2") {
      all(name == "att.g2" ? 2.0f : 1.0f);  // the gate is sigmoid(0) * 2
    } else if (name == "att.w0" || name == "att.a0") {
      all(-20);  // neither decay nor removal
    } else if (name == "att.k_k") {
      all(1);
    } else if (name == "att.receptance.weight") {
      at(0, kConstant) = 1;
    } else if (name == "att.key.weight") {
      for (int key = 0; key < config.width; ++key) at(key, kConstant) = key == 0 ? 1 : 16;
    } else if (name == "att.value.weight" || name == "att.output.weight") {
      for (int channel = 0; channel < kConstant; ++channel) at(channel, channel) = 1;
    } else if (name == "head.weight") {
      for (int64_t token = 0; token < config.vocab; ++token) at(token, kConstant) = -20;
      for (size_t i = 0; i < kKnownLetters.size(); ++i) {
        at(kKnownLetters[i], kConstant) = 0;
        at(kKnownLetters[i], i) = 1;
      }
    }
    storage->push_back(std::move(values));
    list.push_back({entry.name, tensors::DType::kF32, entry.shape,
                    std::as_bytes(std::span<const float>(storage->back()))});
  }
  return tensors::TensorSet::Make("remembering backbone", std::move(list), {}, storage).value();
}

}  // namespace dreamstate::testing
