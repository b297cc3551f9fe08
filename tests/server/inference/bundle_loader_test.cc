#include "server/inference/bundle_loader.h"

#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {
namespace {

class BundleLoaderTest : public ::testing::Test {
 protected:
  BundleLoaderTest()
      : manifest_(std::make_shared<const repository::Manifest>(
            testing::PublishModel(directory_.path(), "a", 1))),
        repository_(repository::Repository::Open(directory_.path()).value()),
        loader_(repository_.get(), {.choose_format = [](const repository::Manifest&, int64_t) {
                  return rwkv::WeightFormat::kFloat32;
                }}) {}

  absl::Status Verify(const Stopping& stopping) {
    return loader_.Verify(manifest_, {}, 0, stopping).status();
  }
  absl::Status Load(const Stopping& stopping) {
    const VerifiedBundle bundle = loader_.Verify(manifest_, {}, 0, {}).value();
    return loader_
        .Load(
            bundle, {}, [] { return nullptr; }, [](VersionState) {}, stopping)
        .status();
  }

  testing::TemporaryDirectory directory_;
  const std::shared_ptr<const repository::Manifest> manifest_;
  const std::unique_ptr<repository::Repository> repository_;
  const BundleLoader loader_;
};

TEST_F(BundleLoaderTest, VerifyingEndsAtTheFirstYes) {
  int asked = 0;
  ASSERT_TRUE(Verify([&] { return ++asked < 0; }).ok());
  ASSERT_GT(asked, 2);
  asked = 0;
  EXPECT_TRUE(absl::IsCancelled(Verify([&] { return ++asked == 2; })));
  EXPECT_EQ(asked, 2);
}

TEST_F(BundleLoaderTest, PackingEndsAtTheFirstYes) {
  int asked = 0;
  ASSERT_TRUE(Load([&] { return ++asked < 0; }).ok());
  ASSERT_GT(asked, 2);
  asked = 0;
  EXPECT_TRUE(absl::IsCancelled(Load([&] { return ++asked == 2; })));
  EXPECT_EQ(asked, 2);
}

}  // namespace
}  // namespace dreamstate::server
