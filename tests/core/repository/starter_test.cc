// The repositories in the tree: the one that ships, and the one of the tests.
#include "core/repository/repository.h"
#include "core/tensors/import.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::repository {
namespace {

// The one version of the one model of the repository at `path`, verified.
Manifest OnlyVersion(const std::string& path, const std::string& model) {
  const auto repository = Repository::Open(path).value();
  EXPECT_THAT(repository->ListModels().value(), ::testing::ElementsAre(model));
  const std::vector<VersionInfo> versions = repository->ListVersions(model).value();
  EXPECT_EQ(versions.size(), 1u);
  Manifest manifest = versions.at(0).manifest.value();
  const absl::Status whole = repository->Verify(manifest);
  EXPECT_TRUE(whole.ok()) << whole;
  EXPECT_EQ(manifest.tokenizer, "byte");
  return manifest;
}

TEST(Starter, IsWholeAndSaysHowItWasMade) {
  const Manifest manifest =
      OnlyVersion(DREAMSTATE_TEST_DATA "/../../deploy/starter/repository", "starter");
  EXPECT_GT(manifest.trainer_step, 0);
  EXPECT_TRUE(manifest.metrics.contains("validation_loss")) << manifest.metrics.dump();
  // What ships stays within these.
  EXPECT_LT(manifest.Find("backbone")->bytes, 10'000'000);
  ASSERT_NE(manifest.Find("state_dit"), nullptr);
  EXPECT_LT(manifest.Find("state_dit")->bytes, 10'500'000);
  EXPECT_TRUE(manifest.metrics["state_dit"].contains("validation_loss"));
}

TEST(Tiny, IsTheModelOfTheTestsFile) {
  const Manifest manifest = OnlyVersion(DREAMSTATE_TEST_DATA "/repository", "tiny");
  const auto original =
      tensors::ImportBackbone(DREAMSTATE_TEST_DATA "/models/tiny-rwkv-7v0-834K-FP32.bin");
  ASSERT_TRUE(original.ok());
  EXPECT_EQ(manifest.Find("backbone")->digest, tensors::Fingerprint(*original));
}

}  // namespace
}  // namespace dreamstate::repository
