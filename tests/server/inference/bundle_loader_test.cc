#include "server/inference/bundle_loader.h"

#include <memory>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/inference/state_dit.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/random_state_dit.h"
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

// A model with a state DiT.
class StateDitLoaderTest : public BundleLoaderTest {
 protected:
  // The next version of model "a": the same backbone, and a state DiT of this seed for backbones of
  // this configuration.
  std::shared_ptr<const repository::Manifest> Publish(
      uint64_t seed, const rwkv::Config& config = testing::ByteConfig(),
      const std::vector<std::string>& labels = {"c", "go", "rust"}) {
    const tensors::TensorSet backbone = testing::RandomBackbone(testing::ByteConfig(), 1);
    const tensors::TensorSet dit = testing::RandomStateDit(config, {.seed = seed});
    repository::Manifest manifest = *manifest_;
    return std::make_shared<const repository::Manifest>(
        repository::Repository::Create(directory_.path())
            .value()
            ->Publish(
                std::move(manifest),
                {{.kind = "backbone", .tensors = &backbone, .config = nlohmann::json::object()},
                 {.kind = "state_dit",
                  .tensors = &dit,
                  .config = {{"labels", labels}, {"taps", {1}}}}})
            .value());
  }
  absl::StatusOr<LoadedBundle> Load(const std::shared_ptr<const repository::Manifest>& manifest,
                                    const BundleLoader::Shared& shared = {}) {
    const auto bundle = loader_.Verify(manifest, shared, 0, {});
    if (!bundle.ok()) return bundle.status();
    return loader_.Load(
        *bundle, shared, [] { return nullptr; }, [](VersionState) {}, {});
  }
};

TEST_F(StateDitLoaderTest, AStateDitIsLoadedWithItsBackboneAndSharedWhileItIsTheSame) {
  const LoadedBundle first = Load(Publish(1)).value();
  ASSERT_NE(first.session->state_dit, nullptr);
  EXPECT_EQ(first.session->state_dit->labels[2], "rust");
  const BundleLoader::Shared shared = {.session = first.session, .parameters = first.parameters};
  const LoadedBundle same = Load(Publish(1), shared).value();
  EXPECT_EQ(same.session->state_dit, first.session->state_dit);
  const LoadedBundle other = Load(Publish(2), shared).value();
  EXPECT_EQ(other.session->weights, first.session->weights);
  EXPECT_NE(other.session->state_dit, first.session->state_dit);
  EXPECT_NE(other.session->state_dit->digest, first.session->state_dit->digest);
  // The loaders' own model has none.
  EXPECT_EQ(Load(manifest_).value().session->state_dit, nullptr);
}

TEST_F(StateDitLoaderTest, AStateDitThatDoesNotFitIsRefusedWithAReason) {
  rwkv::Config wider = testing::ByteConfig();
  wider.layers = 3;
  EXPECT_THAT(std::string(Load(Publish(1, wider)).status().message()),
              ::testing::HasSubstr("state_dit: its states are not of the backbone's shape"));
  EXPECT_THAT(std::string(Load(Publish(1, testing::ByteConfig(), {"c"})).status().message()),
              ::testing::HasSubstr("state_dit: config: expected 3 labels, found 1"));
}

}  // namespace
}  // namespace dreamstate::server
