// Small models to publish.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/repository/repository.h"
#include "gtest/gtest.h"

namespace dreamstate::repository {

// A tensor set whose contents depend on `seed`.
inline tensors::TensorSet MakeTensors(int seed, size_t elements = 256) {
  auto values = std::make_shared<std::vector<float>>(elements);
  for (size_t i = 0; i < elements; ++i)
    (*values)[i] = static_cast<float>(seed) + static_cast<float>(i) / 1024;
  const std::vector<tensors::Tensor> tensors = {{.name = "emb.weight",
                                                 .dtype = tensors::DType::kF32,
                                                 .shape = {static_cast<int64_t>(elements)},
                                                 .data = std::as_bytes(std::span(*values))}};
  return *tensors::TensorSet::Make("test", tensors, {}, values);
}

inline Manifest MakeManifest(const std::string& model = "tiny") {
  Manifest manifest;
  manifest.model = model;
  manifest.tokenizer = "byte";
  manifest.self_test.tokens = {0, 1, 2};
  manifest.self_test.expected_nll = 1.25;
  manifest.self_test.tolerance = {{"fp32", 0.001}};
  return manifest;
}

inline absl::StatusOr<Manifest> PublishBackbone(Repository& repository, int seed,
                                                const std::string& model = "tiny") {
  const tensors::TensorSet tensors = MakeTensors(seed);
  return repository.Publish(MakeManifest(model), {{.kind = "backbone", .tensors = &tensors}});
}

inline std::unique_ptr<Repository> MustCreate(const std::string& path) {
  auto repository = Repository::Create(path);
  EXPECT_TRUE(repository.ok()) << repository.status();
  return *std::move(repository);
}

// Every version that is listed can be read, verified and loaded.
inline void ExpectAllVersionsWhole(const Repository& repository) {
  const auto models = repository.ListModels();
  ASSERT_TRUE(models.ok()) << models.status();
  for (const std::string& model : *models) {
    const auto versions = repository.ListVersions(model);
    ASSERT_TRUE(versions.ok()) << versions.status();
    for (const VersionInfo& info : *versions) {
      ASSERT_TRUE(info.manifest.ok()) << info.manifest.status();
      EXPECT_TRUE(repository.Verify(*info.manifest).ok()) << repository.Verify(*info.manifest);
      EXPECT_TRUE(repository.LoadComponent(*info.manifest, "backbone").ok());
    }
  }
}

}  // namespace dreamstate::repository
