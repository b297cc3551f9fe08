// The repository that ships.
#include "core/repository/repository.h"
#include "core/tensors/import.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::repository {
namespace {

const std::string kStarter = DREAMSTATE_TEST_DATA "/../../deploy/starter/repository";

TEST(Starter, IsWholeAndHoldsTheModelThatItsReadmeNames) {
  const auto repository = Repository::Open(kStarter);
  ASSERT_TRUE(repository.ok()) << repository.status();
  EXPECT_THAT(*(*repository)->ListModels(), ::testing::ElementsAre("tiny"));
  const auto versions = (*repository)->ListVersions("tiny");
  ASSERT_TRUE(versions.ok());
  ASSERT_EQ(versions->size(), 1u);
  const auto& manifest = versions->front().manifest;
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_TRUE((*repository)->Verify(*manifest).ok()) << (*repository)->Verify(*manifest);
  const auto original =
      tensors::ImportBackbone(DREAMSTATE_TEST_DATA "/models/tiny-rwkv-7v0-834K-FP32.bin");
  ASSERT_TRUE(original.ok());
  EXPECT_EQ(manifest->Find("backbone")->digest, tensors::Fingerprint(*original));
  EXPECT_EQ(manifest->tokenizer, "byte");
}

}  // namespace
}  // namespace dreamstate::repository
