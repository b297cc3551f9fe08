#include "server/inference/model_host.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/inference/self_test.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {
namespace {

using ::testing::HasSubstr;

// A host over a repository in a directory of its own.
class ModelHostTest : public ::testing::Test {
 protected:
  void Start(ModelHostOptions options = {}) {
    options.scheduler.slots = 2;
    options.scheduler.max_step_tokens = 8;  // the self-test takes several steps
    options.poll = absl::Milliseconds(1);
    host_ = std::make_unique<ModelHost>(repository::Repository::Create(repository()).value(),
                                        std::move(options), &metrics_,
                                        [this](const std::string& model, bool serving) {
                                          MutexLock lock(mutex_);
                                          if (serving) serving_.insert(model);
                                          changed_.NotifyAll();
                                        });
    host_->Start();
  }

  void WaitUntilServing(const std::string& model) {
    MutexLock lock(mutex_);
    while (!serving_.contains(model)) changed_.Wait(mutex_);
  }

  // Waits until `model` has a version in `state`.
  VersionStatus WaitFor(const std::string& model, VersionState state) {
    while (true) {
      const absl::StatusOr<ModelStatus> status = host_->Model(model);
      if (status.ok()) {
        for (const VersionStatus& version : status->versions) {
          if (version.state == state) return version;
        }
      }
      std::this_thread::yield();
    }
  }

  std::string repository() const { return directory_ / "repository"; }

  testing::TemporaryDirectory directory_;
  Metrics metrics_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::set<std::string> serving_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ModelHost> host_;
};

TEST_F(ModelHostTest, ServesTheNewestVersionOfEachModel) {
  testing::PublishModel(repository(), "a", 1);
  const auto newest = testing::PublishModel(repository(), "a", 2);
  testing::PublishModel(repository(), "b", 3);
  Start();
  WaitUntilServing("a");
  WaitUntilServing("b");
  const auto session = host_->Find("models/a");
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->version, 2);
  EXPECT_EQ((*session)->VersionName(), "models/a/versions/2");
  EXPECT_EQ((*session)->weights->fingerprint, newest.Find("backbone")->digest);
  EXPECT_EQ((*session)->tokenizer->name(), "byte");
  EXPECT_EQ(WaitFor("a", VersionState::kDiscovered).version, 1);
}

TEST_F(ModelHostTest, TheSelfTestOfWhatServesIsWithinTolerance) {
  const auto manifest = testing::PublishModel(repository(), "a", 1);
  Start();
  const VersionStatus version = WaitFor("a", VersionState::kServing);
  ASSERT_TRUE(version.measured_nll.has_value());
  ASSERT_TRUE(version.tolerance.has_value());
  EXPECT_NEAR(*version.measured_nll, manifest.self_test.expected_nll, *version.tolerance);
  EXPECT_GT(*version.measured_nll, 0);
}

TEST_F(ModelHostTest, AFailedSelfTestIsRejectedWithItsReasonAndTheOlderVersionServes) {
  testing::PublishModel(repository(), "a", 1);
  testing::PublishModel(repository(), "a", 1, [](repository::Manifest& manifest) {
    manifest.self_test.expected_nll += 5;
  });
  Start();
  WaitUntilServing("a");
  EXPECT_EQ((*host_->Find("models/a"))->version, 1);
  const VersionStatus failed = WaitFor("a", VersionState::kFailed);
  EXPECT_EQ(failed.version, 2);
  EXPECT_THAT(failed.reason, HasSubstr("self-test: expected"));
}

TEST_F(ModelHostTest, ACorruptBlobIsRejectedAndTheOlderVersionServes) {
  testing::PublishModel(repository(), "a", 1);
  const auto newest = testing::PublishModel(repository(), "a", 2);
  const std::string blob = repository() + "/blobs/sha256/" + newest.Find("backbone")->digest;
  std::filesystem::permissions(blob, std::filesystem::perms::owner_all);
  {
    std::fstream file(blob, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x55');
  }
  Start();
  WaitUntilServing("a");
  EXPECT_EQ((*host_->Find("models/a"))->version, 1);
  EXPECT_THAT(WaitFor("a", VersionState::kFailed).reason,
              HasSubstr(newest.Find("backbone")->digest));
}

// Waits until Find's answer says more than that nothing was looked into yet.
std::string WhyNothingServes(const ModelHost& host) {
  while (true) {
    const absl::Status status = host.Find("").status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    std::string message(status.message());
    if (message.find("expected bundles/") != std::string::npos || status.ok()) return message;
    std::this_thread::yield();
  }
}

TEST_F(ModelHostTest, ARepositoryWithoutModelsSaysWhatItLooksFor) {
  Start();
  const std::string message = WhyNothingServes(*host_);
  EXPECT_THAT(message, HasSubstr("no model yet: "));
  EXPECT_THAT(message, HasSubstr(repository()));
  EXPECT_THAT(message, HasSubstr("expected bundles/<model>/<version>.json under it"));
}

TEST_F(ModelHostTest, AModelThatIsAskedForAndMissingIsNamed) {
  testing::PublishModel(repository(), "a", 1);
  ModelHostOptions options;
  options.models = {"other"};
  Start(std::move(options));
  EXPECT_THAT(WhyNothingServes(*host_), HasSubstr("holds no model \"other\""));
}

TEST_F(ModelHostTest, AnUnreadableManifestIsRejectedWithItsReason) {
  testing::PublishModel(repository(), "a", 1);
  testing::WriteAll(repository() + "/bundles/a/2.json", "{\"schema\": ");
  Start();
  WaitUntilServing("a");
  const VersionStatus failed = WaitFor("a", VersionState::kFailed);
  EXPECT_EQ(failed.version, 2);
  EXPECT_EQ(failed.manifest, nullptr);
  EXPECT_THAT(failed.reason, HasSubstr("2.json"));
}

TEST_F(ModelHostTest, VersionsThatDoNotFitTheirManifestAreRejected) {
  struct Row {
    std::function<void(repository::Manifest&)> edit;
    const char* reason;
  };
  const Row table[] = {
      {[](auto& m) { m.self_test.tolerance = nlohmann::json::object(); }, "tolerance"},
      {[](auto& m) { m.end_token = 256; }, "end_token"},
      {[](auto& m) { m.separator_token = 9999; }, "separator_token"},
      {[](auto& m) { m.self_test.tokens[5] = 256; }, "self_test.tokens"},
      {[](auto& m) { m.tokenizer = "world"; }, "world"},
  };
  int number = 0;
  for (const Row& row : table) {
    const std::string model = "m" + std::to_string(number++);
    testing::PublishModel(repository(), model, 1, row.edit);
  }
  Start();
  number = 0;
  for (const Row& row : table) {
    const std::string model = "m" + std::to_string(number++);
    EXPECT_THAT(WaitFor(model, VersionState::kFailed).reason, HasSubstr(row.reason));
    const absl::Status status = host_->Find("models/" + model).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("ListModelVersions"));
  }
}

TEST_F(ModelHostTest, AModelPublishedLaterIsServed) {
  Start();
  while (host_->Model("a").status().code() == absl::StatusCode::kUnavailable) {
    std::this_thread::yield();
  }
  EXPECT_EQ(host_->Find("").status().code(), absl::StatusCode::kUnavailable);
  testing::PublishModel(repository(), "a", 1);
  WaitUntilServing("a");
  EXPECT_TRUE(host_->Find("").ok());
}

TEST_F(ModelHostTest, OnlyModelsOfTheFilterAreKnown) {
  testing::PublishModel(repository(), "a", 1);
  testing::PublishModel(repository(), "b", 2);
  ModelHostOptions options;
  options.models = {"b"};
  Start(options);
  WaitUntilServing("b");
  EXPECT_EQ(host_->Find("models/a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*host_->Find(""))->model, "b");
}

TEST_F(ModelHostTest, FindSaysWhatIsWrongWithAName) {
  testing::PublishModel(repository(), "a", 1);
  testing::PublishModel(repository(), "b", 2);
  Start();
  WaitUntilServing("a");
  WaitUntilServing("b");
  const absl::Status empty = host_->Find("").status();
  EXPECT_EQ(empty.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(empty).field, "model");
  const absl::Status malformed = host_->Find("a").status();
  EXPECT_EQ(malformed.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(malformed).field, "model");
  const absl::Status missing = host_->Find("models/c").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(DetailsOf(missing).resource.has_value());
  EXPECT_EQ(DetailsOf(missing).resource->name, "models/c");
}

TEST_F(ModelHostTest, ALoadEndsEarlyWhenTheServerDrains) {
  testing::PublishModel(repository(), "a", 1);
  Start();
  while (true) {  // until it has begun
    const absl::StatusOr<ModelStatus> status = host_->Model("a");
    if (status.ok() && status->versions[0].state != VersionState::kDiscovered) break;
    std::this_thread::yield();
  }
  host_->BeginDrain();
  const bool served = host_->Model("a")->session != nullptr;
  host_->Stop();
  const ModelStatus status = host_->Model("a").value();
  EXPECT_EQ(status.session != nullptr, served);
  EXPECT_NE(status.versions[0].state, VersionState::kFailed);
}

TEST_F(ModelHostTest, WhileDrainingNothingIsFoundAndCallersAreToldToRetry) {
  testing::PublishModel(repository(), "a", 1);
  Start();
  WaitUntilServing("a");
  EXPECT_TRUE(host_->Drain(absl::InfiniteDuration()));
  const absl::Status status = host_->Find("models/a").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(DetailsOf(status).retry_after.has_value());
}

TEST_F(ModelHostTest, AFormatMayBeForced) {
  testing::PublishModel(repository(), "a", 1);
  ModelHostOptions options;
  options.weights = rwkv::WeightFormat::kBfloat16;
  Start(options);
  WaitUntilServing("a");
  EXPECT_EQ((*host_->Find(""))->weights->format, rwkv::WeightFormat::kBfloat16);
}

TEST_F(ModelHostTest, Int8FollowsTheManifestsTable) {
  testing::PublishModel(repository(), "a", 1);
  ModelHostOptions options;
  options.weights = rwkv::WeightFormat::kInt8;
  Start(options);
  WaitUntilServing("a");
  const auto session = *host_->Find("");
  EXPECT_EQ(session->weights->format, rwkv::WeightFormat::kInt8);
  EXPECT_GT(session->weights->matrices[static_cast<int>(rwkv::WeightFormat::kInt8)], 0);
}

TEST(ChooseWeightFormat, TakesInt8ForLargeModelsOnlyWhereItWasMeasured) {
  repository::SelfTest measured;
  measured.tolerance = {{"fp32", 1e-3}, {"bf16", 0.5}, {"int8", 0.7}};
  EXPECT_EQ(ChooseWeightFormat(1'000'000, measured), rwkv::WeightFormat::kFloat32);
  EXPECT_EQ(ChooseWeightFormat(190'000'000, measured), rwkv::WeightFormat::kInt8);
  EXPECT_EQ(SelfTestTolerance(measured, rwkv::WeightFormat::kInt8).value(), 0.7);
  // By force it serves older manifests, too.
  repository::SelfTest older, exact_only;
  older.tolerance = {{"fp32", 1e-3}, {"bf16", 0.5}};
  exact_only.tolerance = {{"fp32", 1e-3}};
  EXPECT_EQ(SelfTestTolerance(older, rwkv::WeightFormat::kInt8).value(), 2.0);
  EXPECT_EQ(SelfTestTolerance(exact_only, rwkv::WeightFormat::kInt8).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(ChooseWeightFormat, KeepsSmallModelsExactAndHalvesLargeOnes) {
  repository::SelfTest both, exact_only;
  both.tolerance = {{"fp32", 1e-3}, {"bf16", 0.5}};
  exact_only.tolerance = {{"fp32", 1e-3}};
  EXPECT_EQ(ChooseWeightFormat(1'000'000, both), rwkv::WeightFormat::kFloat32);
  EXPECT_EQ(ChooseWeightFormat(190'000'000, both), rwkv::WeightFormat::kBfloat16);
  EXPECT_EQ(ChooseWeightFormat(190'000'000, exact_only), rwkv::WeightFormat::kFloat32);
}

TEST(SelfTest, LossesThatAreFarOrNotFiniteFail) {
  repository::SelfTest self_test;
  self_test.expected_nll = 10;
  EXPECT_TRUE(CheckSelfTest(self_test, 10.4, 0.5).ok());
  EXPECT_TRUE(CheckSelfTest(self_test, 9.6, 0.5).ok());
  EXPECT_FALSE(CheckSelfTest(self_test, 10.6, 0.5).ok());
  EXPECT_FALSE(CheckSelfTest(self_test, std::nan(""), 0.5).ok());
  EXPECT_FALSE(CheckSelfTest(self_test, std::numeric_limits<double>::infinity(),
                             std::numeric_limits<double>::infinity())
                   .ok());
}

}  // namespace
}  // namespace dreamstate::server
