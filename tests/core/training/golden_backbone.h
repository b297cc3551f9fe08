// The golden model (tests/data/golden/tiny_weights) as a tensor set, and what compares tensors.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "core/tensors/tensor_set.h"
#include "tests/support/golden.h"

namespace dreamstate::training {

inline const std::string kGolden = DREAMSTATE_TEST_DATA "/golden/";

inline tensors::TensorSet GoldenWeights() {
  const dreamstate::testing::Golden golden(kGolden + "tiny_weights");
  auto storage = std::make_shared<std::vector<std::string>>();
  std::vector<tensors::Tensor> list;
  for (const auto& entry : golden.index().at("tensors")) {
    const auto name = entry.at("name").get<std::string>();
    storage->push_back(golden.Bytes(name));
    list.push_back(
        {.name = name,
         .dtype = golden.DType(name) == "bf16" ? tensors::DType::kBF16 : tensors::DType::kF32,
         .shape = golden.Shape(name),
         .data = {}});
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string& bytes = (*storage)[i];
    list[i].data = {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
  }
  return tensors::TensorSet::Make("tiny_weights", std::move(list), {}, storage).value();
}

inline torch::Tensor GoldenTensor(const dreamstate::testing::Golden& golden,
                                  const std::string& name) {
  const std::vector<double> values = golden.Values<double>(name);
  return torch::tensor(values, torch::kDouble).view(golden.Shape(name));
}

// The largest difference as a share of the expected tensor's norm over the root of its size.
inline double RelativeError(const torch::Tensor& found, const torch::Tensor& expected) {
  const torch::Tensor a = found.detach().to(torch::kCPU, torch::kDouble).flatten();
  const torch::Tensor b = expected.detach().to(torch::kDouble).flatten();
  const double scale = b.norm().item<double>() / std::sqrt(static_cast<double>(b.numel()));
  return (a - b).abs().max().item<double>() / (scale > 0 ? scale : 1.0);
}

}  // namespace dreamstate::training
