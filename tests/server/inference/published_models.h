// Small models with the byte vocabulary and random weights, published into a repository for a test.
#pragma once

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/repository/repository.h"
#include "server/trainer/self_test.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::testing {

inline rwkv::Config ByteConfig() {
  rwkv::Config config = SmallConfig();
  config.vocab = 256;
  return config;
}

// The next version of `model`; its weights depend on `seed` alone. `edit` may spoil the manifest
// first; `config` is the backbone's.
inline repository::Manifest PublishModel(
    const std::string& repository_path, const std::string& model, uint32_t seed,
    const std::function<void(repository::Manifest&)>& edit = [](repository::Manifest&) {},
    nlohmann::json config = nlohmann::json::object()) {
  const tensors::TensorSet backbone = RandomBackbone(ByteConfig(), seed);
  repository::Manifest manifest;
  manifest.model = model;
  manifest.tokenizer = "byte";
  manifest.end_token = 0;
  manifest.separator_token = 0;
  std::vector<int32_t> tokens(33);
  std::iota(tokens.begin(), tokens.end(), 60);
  manifest.self_test = trainer::MakeSelfTest(backbone, std::move(tokens)).value();
  edit(manifest);
  return repository::Repository::Create(repository_path)
      .value()
      ->Publish(std::move(manifest),
                {{.kind = "backbone", .tensors = &backbone, .config = std::move(config)}})
      .value();
}

}  // namespace dreamstate::testing
