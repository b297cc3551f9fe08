#include "server/inference/model_host.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/metric_family.h"
#include "server/inference/self_test.h"
#include "tests/server/inference/published_models.h"
#include "tests/server/inference/serving_fixture.h"
#include "tests/support/edited_set.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {
namespace {

using ::testing::HasSubstr;

using testing::PublishModel;

void SetStep(repository::Manifest& manifest) { manifest.trainer_step = 7; }

// Waits until it was told.
class SettledWaiter final : public SettledListener {
 public:
  void OnSettled(absl::StatusOr<ModelStatus> status) override {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    changed_.NotifyAll();
  }
  absl::StatusOr<ModelStatus> Wait() {
    MutexLock lock(mutex_);
    while (!status_) changed_.Wait(mutex_);
    return *status_;
  }

 private:
  Mutex mutex_;
  ConditionVariable changed_;
  std::optional<absl::StatusOr<ModelStatus>> status_ ABSL_GUARDED_BY(mutex_);
};

// A host over a repository in a directory of its own.
class ModelHostTest : public ::testing::Test {
 protected:
  void Start(ModelHostOptions options = {}) {
    options.scheduler.slots = 2;
    options.scheduler.max_step_tokens = 8;  // the self-test takes several steps
    options.poll = absl::Milliseconds(1);
    options.clock = &clock_;
    options.max_drain = absl::Seconds(60);
    options.on_backbone_gone = [this](const std::string& fingerprint) {
      MutexLock lock(mutex_);
      gone_.push_back(fingerprint);
    };
    options.available_memory = [this]() -> std::optional<int64_t> {
      on_memory_asked_();
      return memory_.load();
    };
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

  VersionStatus Version(int64_t number, const std::string& model = "a") {
    const absl::StatusOr<ModelStatus> status = host_->Model(model);
    if (status.ok()) {
      for (const VersionStatus& version : status->versions) {
        if (version.version == number) return version;
      }
    }
    return {};
  }
  // Waits until version `number` is in `state`.
  VersionStatus WaitForVersion(int64_t number, VersionState state) {
    while (true) {
      VersionStatus version = Version(number);
      if (version.version == number && version.state == state) return version;
      std::this_thread::yield();
    }
  }
  // Waits until version `number` answers calls, and is held as a call would.
  std::shared_ptr<const ModelSession> WaitServing(int64_t number) {
    while (true) {
      const auto session = host_->Find("models/a");
      if (session.ok() && (*session)->version == number) return *session;
      std::this_thread::yield();
    }
  }
  // Waits until nothing is left to load.
  void Settle() {
    const auto waiter = std::make_shared<SettledWaiter>();
    host_->WhenSettled("a", waiter);
    const absl::StatusOr<ModelStatus> status = waiter->Wait();
    EXPECT_TRUE(status.ok()) << status.status();
  }
  std::string BlobOf(const repository::Manifest& manifest) const {
    return repository() + "/blobs/sha256/" + manifest.Find("backbone")->digest;
  }

  std::string repository() const { return directory_ / "repository"; }

  testing::TemporaryDirectory directory_;
  ManualClock clock_;
  std::atomic<int64_t> memory_ = int64_t{1} << 40;
  // While a version is verified, once its files are read, and loaded, before they are packed.
  std::function<void()> on_memory_asked_ = [] {};
  Metrics metrics_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::set<std::string> serving_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> gone_ ABSL_GUARDED_BY(mutex_);  // backbones
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

TEST_F(ModelHostTest, WeightsAreSharedOnlyWhereTheSameMatricesAreInt8) {
  const auto publish = [&](const nlohmann::json& kinds) {
    PublishModel(repository(), "a", 1, SetStep, {{"weight_formats", {{"int8", kinds}}}});
  };
  publish({"att.key", "head"});
  ModelHostOptions options;
  options.weights = rwkv::WeightFormat::kInt8;
  Start(std::move(options));
  const auto first = WaitServing(1)->weights;
  publish({"att.key"});
  const auto second = WaitServing(2)->weights;
  EXPECT_NE(second, first);
  EXPECT_EQ(second->fingerprint, first->fingerprint);
  EXPECT_EQ(first->policy.Letters(), "kh");
  EXPECT_EQ(second->policy.Letters(), "k");
  publish({"att.key"});
  EXPECT_EQ(WaitServing(3)->weights, second);
  // A list that nobody understands is not passed over because something live could be shared.
  publish({"att.keys"});
  EXPECT_THAT(WaitForVersion(4, VersionState::kFailed).reason, HasSubstr("att.keys"));
}

TEST_F(ModelHostTest, WeightsAreSharedOnlyInTheFormatThatTheManifestIsServedIn) {
  PublishModel(repository(), "a", 1);
  Start();
  EXPECT_EQ(WaitServing(1)->weights->format, rwkv::WeightFormat::kFloat32);
  PublishModel(repository(), "a", 1,
               [](repository::Manifest& manifest) { manifest.self_test.tolerance.erase("fp32"); });
  EXPECT_EQ(WaitServing(2)->weights->format, rwkv::WeightFormat::kBfloat16);
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
  for (const VersionState phase : {VersionState::kVerifying, VersionState::kLoading}) {
    std::atomic<bool> drains = false;
    on_memory_asked_ = [&] {
      if (Version(1).state != phase) return;
      const auto waiter = std::make_shared<SettledWaiter>();
      host_->WhenSettled("a", waiter);
      host_->BeginDrain();
      // Whoever waits for the load is answered while it still runs.
      EXPECT_TRUE(absl::IsUnavailable(waiter->Wait().status()));
      drains = true;
    };
    Start();
    while (!drains) std::this_thread::yield();
    host_->Stop();
    EXPECT_EQ(Version(1).state, phase);
    EXPECT_EQ(host_->Model("a")->session, nullptr);
  }
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

TEST_F(ModelHostTest, WhileDrainingWhoNamesAStateIsStillSentToItsBackbone) {
  PublishModel(repository(), "a", 1);
  Start();
  const auto first = WaitServing(1);
  PublishModel(repository(), "a", 2);
  WaitServing(2);
  host_->BeginDrain();
  // Its scheduler refuses, and says why; another backbone's would say that the state does not fit.
  EXPECT_EQ(host_->FindBackbone("a", first->weights->fingerprint), first);
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

TEST_F(ModelHostTest, ANewBackboneTakesOverAndTheOldIsKeptForItsStates) {
  PublishModel(repository(), "a", 1);
  Start();
  const auto first = WaitServing(1);
  PublishModel(repository(), "a", 2);
  const auto second = WaitServing(2);
  EXPECT_NE(second->weights, first->weights);
  // Whoever began on the first goes on there, and so does whoever comes with one of its states.
  EXPECT_TRUE(first->end->status().ok());
  EXPECT_EQ(Version(1).state, VersionState::kDraining);
  EXPECT_EQ(host_->FindBackbone("a", first->weights->fingerprint), first);
  EXPECT_EQ(host_->FindBackbone("a", second->weights->fingerprint), second);
  EXPECT_EQ(host_->FindBackbone("a", std::string(64, '0')), nullptr);
  EXPECT_EQ(host_->FindBackbone("b", first->weights->fingerprint), nullptr);
  EXPECT_EQ(host_->Model("a")->session->version, 2);
}

TEST_F(ModelHostTest, ABundleOfTheSameBackboneSwapsInWithoutLoadingIt) {
  PublishModel(repository(), "a", 1);
  Start();
  auto first = WaitServing(1);
  PublishModel(repository(), "a", 1, SetStep);
  const auto second = WaitServing(2);
  EXPECT_EQ(second->weights, first->weights);
  EXPECT_EQ(second->scheduler, first->scheduler);
  EXPECT_TRUE(Version(2).measured_nll.has_value());
  EXPECT_EQ(host_->FindBackbone("a", first->weights->fingerprint), second);
  EXPECT_EQ(Version(1).state, VersionState::kDraining);
  first.reset();
  WaitForVersion(1, VersionState::kReleased);
  EXPECT_EQ(WaitServing(2), second);
  // Its backbone lives on in the second.
  Settle();
  MutexLock lock(mutex_);
  EXPECT_TRUE(gone_.empty());
}

TEST_F(ModelHostTest, AThirdWaitsForThePlaceOfStreamsUntilMaxDrain) {
  PublishModel(repository(), "a", 1);
  Start();
  auto first = WaitServing(1);
  PublishModel(repository(), "a", 1, SetStep);
  WaitServing(2);
  PublishModel(repository(), "a", 1, [](auto& manifest) { manifest.trainer_step = 8; });
  WaitForVersion(3, VersionState::kVerifying);
  PublishModel(repository(), "a", 1, [](auto& manifest) { manifest.trainer_step = 9; });
  WaitForVersion(4, VersionState::kVerifying);  // replaces the one that waited
  WaitForVersion(3, VersionState::kDiscovered);
  clock_.Advance(absl::Seconds(59));
  EXPECT_EQ(WaitServing(2)->version, 2);
  EXPECT_TRUE(first->end->status().ok());
  clock_.Advance(absl::Seconds(1));
  while (first->end->status().ok()) std::this_thread::yield();
  const absl::Status end = first->end->status();
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(end.message()), HasSubstr("models/a/versions/1"));
  EXPECT_TRUE(DetailsOf(end).retry_after.has_value());
  // The scheduler that all of them share is not hurt.
  EXPECT_TRUE(WaitServing(2)->end->status().ok());
  first.reset();
  WaitServing(4);
  EXPECT_EQ(Version(1).state, VersionState::kReleased);
  EXPECT_EQ(Version(3).state, VersionState::kDiscovered);
}

TEST_F(ModelHostTest, AThirdBackboneTakesThePlaceOfTheKeptOne) {
  PublishModel(repository(), "a", 1);
  Start();
  auto first = WaitServing(1);
  const std::string fingerprint = first->weights->fingerprint;
  PublishModel(repository(), "a", 2);
  WaitServing(2);
  PublishModel(repository(), "a", 3);
  // It waits for the stream that runs there, and new calls are kept away.
  while (host_->FindBackbone("a", fingerprint) != nullptr) std::this_thread::yield();
  EXPECT_EQ(Version(1).state, VersionState::kDraining);
  EXPECT_EQ(WaitServing(2)->version, 2);
  std::weak_ptr<const rwkv::Weights> weights = first->weights;
  first.reset();
  WaitServing(3);
  EXPECT_TRUE(weights.expired());
  EXPECT_EQ(Version(1).state, VersionState::kReleased);
  EXPECT_EQ(Version(2).state, VersionState::kDraining);
  MutexLock lock(mutex_);
  EXPECT_EQ(gone_, std::vector<std::string>{fingerprint});
}

TEST_F(ModelHostTest, PinsRollBackAndUnpinningFollowsAgain) {
  PublishModel(repository(), "a", 1);
  PublishModel(repository(), "a", 2);
  Start();
  WaitServing(2);
  // A version that was never loaded here.
  const auto pinned = host_->Pin("a", 1);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_EQ(pinned->pinned, 1);
  WaitServing(1);
  EXPECT_EQ(testing::ReadAll(repository() + "/bundles/a/pin"), "1\n");
  PublishModel(repository(), "a", 3);
  Settle();
  EXPECT_EQ(WaitServing(1)->version, 1);
  EXPECT_EQ(Version(3).state, VersionState::kDiscovered);
  ASSERT_TRUE(host_->Unpin("a").ok());
  WaitServing(3);
  // Back to one that is still live, at once, and to one that was released.
  ASSERT_TRUE(host_->Pin("a", 1).ok());
  WaitServing(1);
  ASSERT_TRUE(host_->Pin("a", 2).ok());
  WaitServing(2);
  EXPECT_EQ(host_->Pin("a", 9).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(host_->Pin("b", 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(host_->Unpin("b").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelHostTest, APinOfAnotherServerIsFollowed) {
  PublishModel(repository(), "a", 1);
  PublishModel(repository(), "a", 2);
  Start();
  WaitServing(2);
  const auto other = repository::Repository::Open(repository()).value();
  ASSERT_TRUE(other->Pin("a", 1).ok());
  WaitServing(1);
  // One that nobody can read freezes what serves.
  testing::WriteAll(repository() + "/bundles/a/pin", "latest");
  PublishModel(repository(), "a", 3);
  Settle();
  EXPECT_EQ(WaitServing(1)->version, 1);
  ASSERT_TRUE(host_->Unpin("a").ok());
  WaitServing(3);
}

TEST_F(ModelHostTest, APinHoldsFromWhenItWasAcknowledged) {
  PublishModel(repository(), "a", 1);
  PublishModel(repository(), "a", 1, SetStep);
  Start();
  WaitServing(2);
  // Looks into the repository go on all the while, some of them begun before the pin was written.
  constexpr int kPins = 20, kLooks = 1000;
  for (int i = 0; i < kPins; ++i) {
    const int64_t version = 1 + i % 2;
    ASSERT_TRUE(host_->Pin("a", version).ok());
    for (int look = 0; look < kLooks; ++look) ASSERT_EQ(host_->Model("a")->pinned, version) << i;
  }
}

TEST_F(ModelHostTest, WhoWaitsIsToldThatTheRepositoryCannotBeRead) {
  PublishModel(repository(), "a", 1);
  Start();
  WaitServing(1);
  const std::string bundles = repository() + "/bundles";
  std::filesystem::rename(bundles, bundles + "-away");
  testing::WriteAll(bundles, "no directory");
  const auto waiter = std::make_shared<SettledWaiter>();
  host_->WhenSettled("a", waiter);
  const absl::Status status = waiter->Wait().status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot read the model repository"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(bundles));
  EXPECT_EQ(WaitServing(1)->version, 1);
  std::filesystem::remove(bundles);
  std::filesystem::rename(bundles + "-away", bundles);
  Settle();
}

TEST_F(ModelHostTest, AModelThatIsRemovedIsForgottenUnlessItServes) {
  PublishModel(repository(), "a", 1);
  PublishModel(repository(), "b", 2,
               [](repository::Manifest& manifest) { manifest.self_test.expected_nll += 5; });
  Start();
  WaitServing(1);
  WaitFor("b", VersionState::kFailed);
  std::filesystem::remove_all(repository() + "/bundles/b");
  Settle();
  ASSERT_TRUE(absl::IsNotFound(host_->Model("b").status()));
  EXPECT_EQ((*host_->Find(""))->model, "a");  // the only one
  std::filesystem::remove_all(repository() + "/bundles/a");
  Settle();
  EXPECT_EQ((*host_->Find("models/a"))->version, 1);
}

TEST_F(ModelHostTest, WithAnUnreadablePinNothingIsLoadedAndCallersAreTold) {
  PublishModel(repository(), "a", 1);
  testing::WriteAll(repository() + "/bundles/a/pin", "latest");
  Start();
  while (host_->Model("a").status().code() == absl::StatusCode::kUnavailable) {
    std::this_thread::yield();
  }
  Settle();
  EXPECT_THAT(std::string(host_->Find("models/a").status().message()),
              HasSubstr("pin: expected a version number"));
}

TEST_F(ModelHostTest, FollowModesHoldForTheirModel) {
  PublishModel(repository(), "a", 1);
  PublishModel(repository(), "b", 1);
  ModelHostOptions options;
  options.follow = FollowMode::kPinned;
  options.follow_by_model = {{"a", FollowMode::kSameBackbone}};
  Start(std::move(options));
  WaitServing(1);
  PublishModel(repository(), "a", 2);
  PublishModel(repository(), "a", 1);
  WaitServing(3);
  EXPECT_EQ(Version(2).state, VersionState::kDiscovered);
  EXPECT_EQ(host_->Model("a")->follow, FollowMode::kSameBackbone);
  EXPECT_THAT(std::string(host_->Find("models/b").status().message()), HasSubstr("none is pinned"));
  ASSERT_TRUE(host_->Pin("b", 1).ok());
  WaitUntilServing("b");
}

// A version that is not served, and what is said of it.
struct BadVersion {
  const char* reason;
  std::function<void(const std::string& repository)> publish;
};

void PublishTensors(const std::string& path, const tensors::TensorSet& tensors,
                    const repository::Manifest& like) {
  ASSERT_TRUE(repository::Repository::Open(path)
                  .value()
                  ->Publish(like, {{.kind = "backbone", .tensors = &tensors}})
                  .ok());
}

TEST_F(ModelHostTest, WhatServesServesOnBesideEveryKindOfBadVersion) {
  const repository::Manifest good = PublishModel(repository(), "a", 1);
  const tensors::TensorSet weights = testing::RandomBackbone(testing::ByteConfig(), 99);
  const auto blob = [&](const repository::Manifest& manifest) { return BlobOf(manifest); };
  const std::vector<BadVersion> table = {
      {"expected SHA-256",
       [&](const std::string& path) {
         const std::string file = blob(PublishModel(path, "a", 11));
         std::string bytes = testing::ReadAll(file);
         bytes[bytes.size() / 2] ^= 1;
         testing::WriteAll(file, bytes);
       }},
      {"bytes, found",
       [&](const std::string& path) {
         const std::string file = blob(PublishModel(path, "a", 12));
         ASSERT_EQ(truncate(file.c_str(), 1000), 0);
       }},
      {"found none",
       [&](const std::string& path) {
         ASSERT_EQ(unlink(blob(PublishModel(path, "a", 13)).c_str()), 0);
       }},
      {"head.weight: expected [256, 128], found f32 [128, 256]",
       [&](const std::string& path) {
         PublishTensors(path, testing::EditedSet(weights).Reshape("head.weight", {128, 256}).Make(),
                        good);
       }},
      {"expected finite values, found nan",
       [&](const std::string& path) {
         PublishTensors(path, testing::EditedSet(weights).Poison("head.weight", 5).Make(), good);
       }},
      {"self-test: expected",
       [&](const std::string& path) { PublishTensors(path, weights, good); }},
      {"tokenizer",
       [&](const std::string& path) {
         rwkv::Config config = testing::ByteConfig();
         config.vocab = 100;
         PublishTensors(path, testing::RandomBackbone(config, 3), good);
       }},
      {"schema: expected 1",
       [&](const std::string& path) {
         testing::WriteAll(path + "/bundles/a/9.json", "{\"schema\": 2}");
       }},
      {"syntax error",
       [&](const std::string& path) {
         testing::WriteAll(path + "/bundles/a/10.json", "{\"schema\": 1, \"mod");
       }},
  };
  Start();
  const auto serving = WaitServing(1);
  // Wrongly published bytes come to these files: the server must cope, whatever order they land in.
  for (size_t i = 0; i < table.size(); ++i) {
    const auto version = static_cast<int64_t>(i) + 2;
    // Held back until the damage is done.
    ASSERT_TRUE(host_->Pin("a", 1).ok());
    table[i].publish(repository());
    ASSERT_TRUE(host_->Unpin("a").ok());
    const VersionStatus failed = WaitForVersion(version, VersionState::kFailed);
    EXPECT_THAT(failed.reason, HasSubstr(table[i].reason));
    Settle();
    EXPECT_EQ(WaitServing(1), serving);
    EXPECT_EQ(Version(1).state, VersionState::kServing);
  }
  PublishModel(repository(), "a", 5);
  WaitServing(11);
}

TEST_F(ModelHostTest, ABlobThatIsTruncatedBetweenItsVerificationAndItsLoadIsRefused) {
  PublishModel(repository(), "a", 1);
  Start();
  auto first = WaitServing(1);
  PublishModel(repository(), "a", 2);
  WaitServing(2);
  const std::string blob = BlobOf(PublishModel(repository(), "a", 3));
  // Verified, it waits for the place of the first, whose streams run.
  while (host_->FindBackbone("a", first->weights->fingerprint) != nullptr) {
    std::this_thread::yield();
  }
  ASSERT_EQ(truncate(blob.c_str(), 5000), 0);
  first.reset();
  EXPECT_THAT(WaitForVersion(3, VersionState::kFailed).reason,
              ::testing::AnyOf(HasSubstr("the blob changed while it was loaded"),
                               HasSubstr("expected finite values")));
  EXPECT_EQ(WaitServing(2)->version, 2);
}

TEST_F(ModelHostTest, LoadsOfAllLiveVersionsAddUpInMetrics) {
  const auto gauge = [&](const std::string& name, const std::string& state) {
    for (const auto& collectable : metrics_.collectables()) {
      for (const prometheus::MetricFamily& family : collectable->Collect()) {
        if (family.name != name) continue;
        for (const prometheus::ClientMetric& metric : family.metric) {
          for (const auto& label : metric.label) {
            if (label.value == state) return metric.gauge.value;
          }
        }
      }
    }
    return -1.0;
  };
  PublishModel(repository(), "a", 1);
  Start();
  WaitServing(1);
  while (gauge("dreamstate_slots", "free") != 2) std::this_thread::yield();
  PublishModel(repository(), "a", 2);
  WaitServing(2);
  while (gauge("dreamstate_slots", "free") != 4) std::this_thread::yield();
  PublishModel(repository(), "a", 3);
  WaitServing(3);
  while (gauge("dreamstate_slots", "free") != 4) std::this_thread::yield();
  EXPECT_EQ(gauge("dreamstate_slots", "busy"), 0);
}

TEST_F(ModelHostTest, ShortMemoryIsARefusalThatIsTriedAgainWhenItMayPass) {
  PublishModel(repository(), "a", 1);
  Start();
  WaitServing(1);
  memory_ = 1000;
  PublishModel(repository(), "a", 2);
  const VersionStatus failed = WaitForVersion(2, VersionState::kFailed);
  EXPECT_THAT(failed.reason, HasSubstr("not enough memory: needs "));
  EXPECT_THAT(failed.reason, HasSubstr("available are 1000"));
  EXPECT_THAT(failed.reason, HasSubstr("again in 5s"));
  clock_.Advance(absl::Seconds(5));
  while (Version(2).reason.find("again in 10s") == std::string::npos) std::this_thread::yield();
  EXPECT_EQ(WaitServing(1)->version, 1);
  memory_ = int64_t{1} << 40;
  clock_.Advance(absl::Seconds(10));
  WaitServing(2);
}

TEST_F(ModelHostTest, ReloadGivesAnotherChanceAtOnce) {
  PublishModel(repository(), "a", 1);
  Start();
  WaitServing(1);
  ASSERT_TRUE(host_->Pin("a", 1).ok());
  const std::string blob = BlobOf(PublishModel(repository(), "a", 2));
  const std::string whole = testing::ReadAll(blob);
  testing::WriteAll(blob, whole.substr(0, whole.size() / 2));
  ASSERT_TRUE(host_->Unpin("a").ok());
  WaitForVersion(2, VersionState::kFailed);
  clock_.Advance(absl::Hours(100));  // what is broken is not tried again by itself
  Settle();
  EXPECT_EQ(Version(2).state, VersionState::kFailed);
  testing::WriteAll(blob, whole);
  EXPECT_THAT(*host_->Reload("a"), ::testing::ElementsAre(2));
  WaitServing(2);
  EXPECT_THAT(*host_->Reload("a"), ::testing::IsEmpty());
  EXPECT_EQ(host_->Reload("b").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelHostTest, CallsThatComeDuringManySwapsFindAVersionThatIsWhole) {
  PublishModel(repository(), "a", 1);
  Start();
  WaitServing(1);
  std::atomic<bool> done = false;
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      while (!done) {
        const auto session = host_->Find("models/a");
        ASSERT_TRUE(session.ok()) << session.status();
        const auto other = host_->FindBackbone("a", (*session)->weights->fingerprint);
        if (other != nullptr) {
          ASSERT_EQ(other->weights->fingerprint, (*session)->weights->fingerprint);
        }
        ASSERT_TRUE(host_->Model("a").ok());
      }
    });
  }
  for (int version = 2; version <= 8; ++version) {
    PublishModel(repository(), "a", static_cast<uint32_t>(version / 2));
    WaitServing(version);
  }
  done = true;
  for (std::thread& caller : callers) caller.join();
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
