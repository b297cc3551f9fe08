#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "core/base/hash.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/repository/models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TemporaryDirectory;
using testing::WriteAll;

TEST(Publish, EndsWhereNoNumberIsLeft) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  std::string manifest = ReadAll(directory / "models/bundles/tiny/1.json");
  const std::string last = std::to_string(INT64_MAX - 1);
  manifest.replace(manifest.find("\"version\": 1"), 12, "\"version\": " + last);
  WriteAll(directory / ("models/bundles/tiny/" + last + ".json"), manifest);
  const auto published = PublishBackbone(*repository, 2);
  EXPECT_EQ(published.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(published.status().message()), HasSubstr("no number is left"));
}

TEST(Publish, WritesWhatTheArchitectureSays) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const tensors::TensorSet tensors = MakeTensors(1);
  Manifest manifest = MakeManifest();
  manifest.parents = {3};
  manifest.trainer_step = 17;
  const auto published = repository->Publish(
      manifest, {{.kind = "backbone", .tensors = &tensors, .config = {{"layers", 12}}}});
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->version, 1);
  ASSERT_EQ(published->components.size(), 1u);
  const Component& backbone = published->components[0];
  EXPECT_EQ(backbone.digest, tensors::Fingerprint(tensors));
  EXPECT_EQ(backbone.config["layers"], 12);

  EXPECT_THAT(directory.Names("models"), ElementsAre("blobs", "bundles"));
  EXPECT_THAT(directory.Names("models/blobs/sha256"), ElementsAre(backbone.digest));
  EXPECT_THAT(directory.Names("models/bundles/tiny"), ElementsAre("1.json"));
  const std::string blob = ReadAll(directory / "models/blobs/sha256/" + backbone.digest);
  EXPECT_EQ(backbone.bytes, static_cast<int64_t>(blob.size()));
  EXPECT_EQ(backbone.file_sha256, Sha256Hex(blob));

  const auto read = repository->ListVersions("tiny");
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->size(), 1u);
  EXPECT_EQ(SerializeManifest(*read->front().manifest), SerializeManifest(*published));
  const auto loaded = repository->LoadComponent(*published, "backbone");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(tensors::Fingerprint(*loaded), backbone.digest);
}

TEST(Publish, TheSameTensorsShareOneBlob) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const auto first = PublishBackbone(*repository, 1);
  const auto second = PublishBackbone(*repository, 1);
  const auto third = PublishBackbone(*repository, 2, "other");
  ASSERT_TRUE(first.ok() && second.ok() && third.ok());
  EXPECT_EQ(second->version, 2);
  EXPECT_EQ(third->version, 1);
  EXPECT_EQ(first->components[0].file_sha256, second->components[0].file_sha256);
  EXPECT_EQ(directory.Names("models/blobs/sha256").size(), 2u);
  EXPECT_THAT(*repository->ListModels(), ElementsAre("other", "tiny"));
}

TEST(Publish, ReplacesADamagedBlobOfTheSameName) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const auto first = PublishBackbone(*repository, 1);
  const std::string blob = directory / "models/blobs/sha256/" + first->components[0].digest;
  WriteAll(blob, "damaged");
  EXPECT_FALSE(repository->Verify(*first).ok());
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  ExpectAllVersionsWhole(*repository);
}

TEST(Publish, RefusesToLoseAComponentUnlessAsked) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const tensors::TensorSet backbone = MakeTensors(1), dit = MakeTensors(2);
  const ComponentSource backbone_source{.kind = "backbone", .tensors = &backbone};
  ASSERT_TRUE(
      repository->Publish(MakeManifest(), {backbone_source, {.kind = "state_dit", .tensors = &dit}})
          .ok());
  const auto refused = repository->Publish(MakeManifest(), {backbone_source});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("state_dit"));
  EXPECT_EQ(repository->ListVersions("tiny")->size(), 1u);
  const auto asked = repository->Publish(MakeManifest(), {backbone_source}, true);
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_EQ(asked->version, 2);
}

TEST(Publish, RefusesWhatAReaderWouldRefuse) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const tensors::TensorSet tensors = MakeTensors(1);
  const ComponentSource backbone{.kind = "backbone", .tensors = &tensors};
  const auto refused = [&](Manifest manifest, const std::vector<ComponentSource>& components) {
    return repository->Publish(std::move(manifest), components).status();
  };
  EXPECT_EQ(refused(MakeManifest("../escape"), {backbone}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(refused(MakeManifest(), {}).ok());
  EXPECT_FALSE(refused(MakeManifest(), {backbone, backbone}).ok());
  EXPECT_FALSE(refused(MakeManifest(), {{.kind = "state_dit", .tensors = &tensors}}).ok());
  EXPECT_FALSE(refused(MakeManifest(), {{.kind = "surprise", .tensors = &tensors}}).ok());
  Manifest manifest = MakeManifest();
  manifest.tokenizer = "klingon";
  EXPECT_FALSE(refused(manifest, {backbone}).ok());
  manifest = MakeManifest();
  manifest.self_test.expected_nll = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(refused(manifest, {backbone}).ok());
  EXPECT_TRUE(repository->ListModels()->empty());
  EXPECT_EQ(repository->ListVersions("tiny").status().code(), absl::StatusCode::kNotFound);
}

TEST(Publish, RefusesTensorsThatAreNotThoseThatWereTested) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const tensors::TensorSet tested = MakeTensors(1), changed = MakeTensors(2);
  const std::string digest = tensors::Fingerprint(tested);
  const auto refused = repository->Publish(
      MakeManifest(), {{.kind = "backbone", .tensors = &changed, .digest = digest}});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("backbone: expected fingerprint " + digest));
  EXPECT_TRUE(directory.Names("models").empty());
  const auto published = repository->Publish(
      MakeManifest(), {{.kind = "backbone", .tensors = &tested, .digest = digest}});
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->components[0].digest, digest);
}

TEST(Publish, TakesTheNumberAfterAnUnreadableVersion) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  WriteAll(directory / "models/bundles/tiny/7.json", "garbage");
  const auto published = PublishBackbone(*repository, 2);
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->version, 8);
}

TEST(Publish, ThreadsThatRaceAllSucceedWithVersionsOfTheirOwn) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  constexpr int kThreads = 4, kEach = 6;
  std::vector<std::thread> threads;
  std::vector<std::vector<int64_t>> versions(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        // Half of them publish the same tensors.
        const auto published = PublishBackbone(*repository, t % 2 == 0 ? 0 : 100 * t + i);
        ASSERT_TRUE(published.ok()) << published.status();
        versions[static_cast<size_t>(t)].push_back(published->version);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<int64_t> all;
  for (const auto& mine : versions) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), size_t{kThreads} * kEach);
  EXPECT_EQ(*all.rbegin(), kThreads * kEach);
  ExpectAllVersionsWhole(*repository);
}

TEST(Publish, ProcessesThatRaceAllSucceedWithVersionsOfTheirOwn) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  constexpr int kProcesses = 4, kEach = 5;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int i = 0; i < kEach; ++i) {
        if (!PublishBackbone(*repository, p).ok()) _exit(1);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(repository->ListVersions("tiny")->size(), size_t{kProcesses} * kEach);
  EXPECT_EQ(repository->ListVersions("tiny")->front().version, kProcesses * kEach);
  ExpectAllVersionsWhole(*repository);
}

}  // namespace
}  // namespace dreamstate::repository
