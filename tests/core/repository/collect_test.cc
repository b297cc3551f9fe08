#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/repository/models.h"
#include "tests/core/repository/system_calls.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::ReadAll;
using testing::TemporaryDirectory;
using testing::WriteAll;

// Makes a file look as if it had been written `age` ago.
void MakeOlder(const std::string& path, absl::Duration age) {
  const timespec time = absl::ToTimespec(absl::Now() - age);
  const timespec times[2] = {time, time};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST(Collect, RemovesOldBlobsThatNoManifestNames) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  const auto kept = PublishBackbone(*repository, 1);
  const auto dropped = PublishBackbone(*repository, 2);
  const std::string blob = directory / "blobs/sha256/" + dropped->components[0].digest;
  ASSERT_EQ(unlink((directory / "bundles/tiny/2.json").c_str()), 0);
  MakeOlder(blob, absl::Hours(2));
  MakeOlder(directory / "blobs/sha256/" + kept->components[0].digest, absl::Hours(2));

  const auto early = repository->Collect(absl::Hours(3));
  ASSERT_TRUE(early.ok()) << early.status();
  EXPECT_EQ(early->blobs_removed, 0);
  EXPECT_EQ(access(blob.c_str(), F_OK), 0);

  const auto report = repository->Collect(absl::Hours(1));
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->blobs_removed, 1);
  EXPECT_EQ(report->bytes_freed, dropped->components[0].bytes);
  EXPECT_THAT(directory.Names("blobs/sha256"), ElementsAre(kept->components[0].digest));
  ExpectAllVersionsWhole(*repository);
}

TEST(Collect, RemovesOldTemporaryFilesOnly) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  const std::string old_files[] = {directory / "blobs/sha256/x.tmp-1",
                                   directory / "bundles/tiny/2.json.tmp-2.tmp-3"};
  for (const std::string& path : old_files) {
    WriteAll(path, "half");
    MakeOlder(path, absl::Hours(2));
  }
  WriteAll(directory / "blobs/sha256/y.tmp-4", "in work");
  WriteAll(directory / "blobs/sha256/notes.txt", "a person's");
  MakeOlder(directory / "blobs/sha256/notes.txt", absl::Hours(2));
  const auto report = repository->Collect(absl::Hours(1));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->temporary_files_removed, 2);
  EXPECT_EQ(report->blobs_removed, 0);
  for (const std::string& path : old_files) EXPECT_NE(access(path.c_str(), F_OK), 0);
  EXPECT_EQ(directory.Names("blobs/sha256").size(), 3u);
  EXPECT_THAT(directory.Names("bundles/tiny"), ElementsAre("1.json"));
}

TEST(Collect, KeepsWhatAManifestFromTheFutureNames) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  const auto published = PublishBackbone(*repository, 1);
  WriteAll(directory / "bundles/tiny/1.json",
           "{\"schema\": 2, \"parts\": [\"sha256:" + published->components[0].digest + "\"]}");
  const auto report = repository->Collect(absl::ZeroDuration());
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->blobs_removed, 0);
  EXPECT_THAT(directory.Names("blobs/sha256"), ElementsAre(published->components[0].digest));
}

TEST(Collect, KeepsWhatModelsThatWerePutAsideName) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  const std::string bundles = directory / "models/bundles";
  ASSERT_EQ(rename((bundles + "/tiny").c_str(), (bundles + "/Tiny (old)").c_str()), 0);
  const auto aside = repository->Collect(absl::ZeroDuration());
  ASSERT_TRUE(aside.ok()) << aside.status();
  EXPECT_EQ(aside->blobs_removed, 0);
  // As when a mount is missing at that moment.
  ASSERT_EQ(rename(bundles.c_str(), (directory / "models/elsewhere").c_str()), 0);
  const auto missing = repository->Collect(absl::ZeroDuration());
  ASSERT_TRUE(missing.ok()) << missing.status();
  EXPECT_EQ(missing->blobs_removed, 0);
  EXPECT_EQ(directory.Names("models/blobs/sha256").size(), 1u);
}

TEST(Collect, SeesAVersionThatIsTakenBackMeanwhile) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  const auto old = PublishBackbone(*repository, 1);
  ASSERT_TRUE(PublishBackbone(*repository, 2).ok());
  MakeOlder(directory / "models/blobs/sha256/" + old->components[0].digest, absl::Hours(2));
  const std::string manifest = directory / "models/bundles/tiny/1.json";
  const std::string retired = manifest + ".retired";
  ASSERT_EQ(rename(manifest.c_str(), retired.c_str()), 0);
  // Its version has been pinned: a Retain gives it back its name after it was listed.
  testing::StartFault(repository->path(), testing::Fault::kNone, 0, 0);
  testing::RunBefore("read bundles/tiny/1.json.retired",
                     [&] { ASSERT_EQ(rename(retired.c_str(), manifest.c_str()), 0); });
  const auto report = repository->Collect(absl::Hours(1));
  testing::StopFault();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->blobs_removed, 0);
  EXPECT_EQ(access(manifest.c_str(), F_OK), 0);
  ExpectAllVersionsWhole(*repository);
}

TEST(Collect, PassesOverALinkToNothing) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  ASSERT_EQ(symlink("nowhere", (directory / "bundles/tiny/old.json").c_str()), 0);
  EXPECT_TRUE(repository->Collect(absl::ZeroDuration()).ok());
}

TEST(Collect, GraceCountsFromWhenAVersionIsRetired) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  const auto old = PublishBackbone(*repository, 1);
  ASSERT_TRUE(PublishBackbone(*repository, 2).ok());
  const std::string blob = directory / "blobs/sha256/" + old->components[0].digest;
  MakeOlder(blob, absl::Hours(200));
  ASSERT_EQ(repository->Retain("tiny", 1)->versions_removed, 1);
  EXPECT_EQ(repository->Collect(absl::Hours(1))->blobs_removed, 0);
  MakeOlder(blob, absl::Hours(2));
  EXPECT_EQ(repository->Collect(absl::Hours(1))->blobs_removed, 1);
  ExpectAllVersionsWhole(*repository);
}

TEST(Collect, AReusedBlobIsYoungAgain) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  const auto first = PublishBackbone(*repository, 1);
  const std::string blob = directory / "blobs/sha256/" + first->components[0].digest;
  MakeOlder(blob, absl::Hours(2));
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  for (const char* name : {"bundles/tiny/1.json", "bundles/tiny/2.json"}) {
    ASSERT_EQ(unlink((directory / name).c_str()), 0);
  }
  EXPECT_EQ(repository->Collect(absl::Hours(1))->blobs_removed, 0);
  MakeOlder(blob, absl::Hours(2));
  EXPECT_EQ(repository->Collect(absl::Hours(1))->blobs_removed, 1);
  EXPECT_THAT(directory.Names("blobs/sha256"), IsEmpty());
}

TEST(Collect, BesidePublishersTakesNothingThatIsNamed) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  std::atomic<bool> done = false;
  std::thread collector([&] {
    while (!done) {
      const auto report = repository->Collect(absl::Hours(1));
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->blobs_removed, 0);
      EXPECT_EQ(report->temporary_files_removed, 0);
    }
  });
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(PublishBackbone(*repository, i % 5).ok());
  done = true;
  collector.join();
  ExpectAllVersionsWhole(*repository);
}

}  // namespace
}  // namespace dreamstate::repository
