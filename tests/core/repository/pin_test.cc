// Pins and retention: what they promise, and what is left when they are cut off at any system call.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/repository/models.h"
#include "tests/core/repository/system_calls.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::repository {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::Fault;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::StartFault;
using testing::StopFault;
using testing::TemporaryDirectory;
using testing::WriteAll;

std::unique_ptr<Repository> WithVersions(const std::string& path, int versions) {
  auto repository = MustCreate(path);
  for (int i = 1; i <= versions; ++i) EXPECT_TRUE(PublishBackbone(*repository, i).ok());
  return repository;
}

TEST(Pin, IsAFileThatEveryServerReads) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory.path(), 2);
  EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
  ASSERT_TRUE(repository->Pin("tiny", 1).ok());
  EXPECT_EQ(*repository->Pinned("tiny"), 1);
  EXPECT_EQ(*Repository::Open(directory.path()).value()->Pinned("tiny"), 1);
  EXPECT_EQ(ReadAll(directory / "bundles/tiny/pin"), "1\n");
  ASSERT_TRUE(repository->Pin("tiny", 2).ok());
  EXPECT_EQ(*repository->Pinned("tiny"), 2);
  ASSERT_TRUE(repository->Unpin("tiny").ok());
  EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
  EXPECT_TRUE(repository->Unpin("tiny").ok());
  EXPECT_EQ(repository->ListVersions("tiny")->size(), 2u);
}

TEST(Pin, OfAVersionThatIsNotThereIsNotFound) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory.path(), 1);
  for (const int64_t version : {int64_t{2}, int64_t{0}, int64_t{-1}}) {
    EXPECT_EQ(repository->Pin("tiny", version).code(), absl::StatusCode::kNotFound);
  }
  EXPECT_EQ(repository->Pin("other", 1).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(repository->Pin("../tiny", 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
}

TEST(Pin, ThatCannotBeReadIsAnErrorThatNamesItAndNotNoPin) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory.path(), 2);
  const std::string path = directory / "bundles/tiny/pin";
  for (const std::string& garbage :
       {std::string(), std::string("latest"), std::string("0"), std::string("-1"),
        std::string("01"), std::string("1 "), std::string("1\n2"), std::string("v1"),
        std::string("99999999999999999999"), std::string("1\0", 2), std::string(1000, '1')}) {
    WriteAll(path, garbage);
    const auto pinned = repository->Pinned("tiny");
    EXPECT_EQ(pinned.status().code(), absl::StatusCode::kInvalidArgument) << garbage;
    EXPECT_THAT(std::string(pinned.status().message()), HasSubstr(path));
    // Nothing is retired while nobody knows what is pinned.
    EXPECT_FALSE(repository->Retain("tiny", 1).ok());
    EXPECT_EQ(repository->ListVersions("tiny")->size(), 2u);
  }
  for (const char* by_hand : {"1", "1\n"}) {
    WriteAll(path, by_hand);
    EXPECT_EQ(*repository->Pinned("tiny"), 1);
  }
  WriteAll(path, "garbage");
  ASSERT_TRUE(repository->Pin("tiny", 2).ok());
  EXPECT_EQ(*repository->Pinned("tiny"), 2);
  WriteAll(path, "garbage");
  ASSERT_TRUE(repository->Unpin("tiny").ok());
  EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
}

TEST(Pin, OnAReadOnlyRepositoryIsAFailedPrecondition) {
  for (const int error : {EROFS, EACCES}) {
    TemporaryDirectory directory;
    const auto repository = WithVersions(directory / "models", 1);
    ASSERT_TRUE(repository->Pin("tiny", 1).ok());
    for (const auto& write : {std::function([&] { return repository->Pin("tiny", 1); }),
                              std::function([&] { return repository->Unpin("tiny"); })}) {
      StartFault(repository->path(), Fault::kFailFrom, 1, error);
      const absl::Status status = write();
      StopFault();
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(repository->path()));
    }
    EXPECT_EQ(*repository->Pinned("tiny"), 1);
  }
}

TEST(Pin, CutOffAtAnyStepIsTheOldOneOrTheNew) {
  constexpr int kMoreThanEnough = 100;
  bool finished = false;
  for (int step = 1; step < kMoreThanEnough && !finished; ++step) {
    TemporaryDirectory directory;
    const auto repository = WithVersions(directory / "models", 2);
    ASSERT_TRUE(repository->Pin("tiny", 1).ok());
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      StartFault(repository->path(), Fault::kDie, step, 0);
      _exit(repository->Pin("tiny", 2).ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    finished = WEXITSTATUS(status) == 0;
    ASSERT_TRUE(finished || WEXITSTATUS(status) == testing::kDied);
    const auto pinned = repository->Pinned("tiny");
    ASSERT_TRUE(pinned.ok()) << pinned.status();
    EXPECT_TRUE(*pinned == 1 || *pinned == 2);
    ExpectAllVersionsWhole(*repository);
    ASSERT_TRUE(repository->Collect(absl::ZeroDuration()).ok());
    EXPECT_THAT(directory.Names("models/bundles/tiny"), ElementsAre("1.json", "2.json", "pin"));
  }
  EXPECT_TRUE(finished);
}

// Retires `version` as a Retain does that looked for the pin before it was written.
void Retire(const TemporaryDirectory& directory, int64_t version) {
  const std::string path = directory / absl::StrCat("models/bundles/tiny/", version, ".json");
  ASSERT_EQ(rename(path.c_str(), absl::StrCat(path, ".retired").c_str()), 0);
}

TEST(Pin, OfAVersionThatIsRetiredMeanwhileLeavesThePinBefore) {
  for (const std::string& before : {std::string("1\n"), std::string("garbage"), std::string()}) {
    TemporaryDirectory directory;
    const auto repository = WithVersions(directory / "models", 3);
    const std::string path = directory / "models/bundles/tiny/pin";
    if (!before.empty()) WriteAll(path, before);
    StartFault(repository->path(), Fault::kNone, 0, 0);
    testing::RunBefore("fsync bundles/tiny", [&] { Retire(directory, 2); });
    EXPECT_EQ(repository->Pin("tiny", 2).code(), absl::StatusCode::kNotFound);
    StopFault();
    if (before.empty()) {
      EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
    } else {
      EXPECT_EQ(ReadAll(path), before);
    }
  }
}

TEST(Pin, OfAVersionThatIsRetiredMeanwhileLeavesWhatAnotherHasPinned) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory / "models", 3);
  ASSERT_TRUE(repository->Pin("tiny", 1).ok());
  StartFault(repository->path(), Fault::kNone, 0, 0);
  testing::RunBefore("fsync bundles/tiny", [&] {
    Retire(directory, 2);
    EXPECT_TRUE(repository->Pin("tiny", 3).ok());
  });
  EXPECT_EQ(repository->Pin("tiny", 2).code(), absl::StatusCode::kNotFound);
  StopFault();
  EXPECT_EQ(*repository->Pinned("tiny"), 3);
}

TEST(Pin, BeforeIsNotRestoredWhereItsVersionIsGoneToo) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory / "models", 3);
  ASSERT_TRUE(repository->Pin("tiny", 1).ok());
  StartFault(repository->path(), Fault::kNone, 0, 0);
  testing::RunBefore("fsync bundles/tiny", [&] {
    Retire(directory, 1);
    Retire(directory, 2);
  });
  EXPECT_EQ(repository->Pin("tiny", 2).code(), absl::StatusCode::kNotFound);
  StopFault();
  EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
}

TEST(Pin, IsSyncedBeforeItIsAcknowledged) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory / "models", 1);
  StartFault(repository->path(), Fault::kNone, 0, 0);
  ASSERT_TRUE(repository->Pin("tiny", 1).ok());
  const std::vector<std::string> calls = StopFault();
  EXPECT_EQ(calls.back(), "fsync bundles/tiny");
  EXPECT_THAT(calls, Contains(::testing::StartsWith("fsync bundles/tiny/pin.tmp-")));
}

TEST(Retain, KeepsTheNewestAndThePinned) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory.path(), 6);
  ASSERT_TRUE(repository->Pin("tiny", 2).ok());
  const auto report = repository->Retain("tiny", 2);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->versions_removed, 3);
  EXPECT_THAT(*repository->ListVersionNumbers("tiny"), ElementsAre(6, 5, 2));
  EXPECT_EQ(repository->Collect(absl::ZeroDuration())->blobs_removed, 3);
  ExpectAllVersionsWhole(*repository);
  // The next number is not one that was used.
  EXPECT_EQ(PublishBackbone(*repository, 9)->version, 7);
  EXPECT_EQ(repository->Retain("tiny", 10)->versions_removed, 0);
  EXPECT_EQ(repository->Retain("tiny", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(repository->Retain("other", 1).status().code(), absl::StatusCode::kNotFound);
}

TEST(Retain, CutOffAtAnyStepKeepsTheNewestAndThePinnedWhole) {
  constexpr int kMoreThanEnough = 100;
  bool finished = false;
  for (int step = 1; step < kMoreThanEnough && !finished; ++step) {
    TemporaryDirectory directory;
    const auto repository = WithVersions(directory / "models", 5);
    ASSERT_TRUE(repository->Pin("tiny", 1).ok());
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      StartFault(repository->path(), Fault::kDie, step, 0);
      _exit(repository->Retain("tiny", 2).ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    finished = WEXITSTATUS(status) == 0;
    ASSERT_TRUE(finished || WEXITSTATUS(status) == testing::kDied);
    EXPECT_THAT(*repository->ListVersionNumbers("tiny"),
                ::testing::IsSupersetOf({int64_t{5}, int64_t{4}, int64_t{1}}));
    ASSERT_TRUE(repository->Collect(absl::ZeroDuration()).ok());
    ExpectAllVersionsWhole(*repository);
    // The next run ends what this one began.
    ASSERT_TRUE(repository->Retain("tiny", 2).ok());
    EXPECT_THAT(directory.Names("models/bundles/tiny"),
                ElementsAre("1.json", "4.json", "5.json", "pin"));
  }
  EXPECT_TRUE(finished);
}

TEST(Retain, AVersionPinnedWhileItIsRetiredComesBack) {
  TemporaryDirectory directory;
  const auto repository = WithVersions(directory.path(), 3);
  // Where a run was cut off, and somebody who had looked before has pinned.
  ASSERT_EQ(rename((directory / "bundles/tiny/1.json").c_str(),
                   (directory / "bundles/tiny/1.json.retired").c_str()),
            0);
  EXPECT_EQ(repository->Pin("tiny", 1).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(repository->Collect(absl::ZeroDuration())->blobs_removed, 0);
  WriteAll(directory / "bundles/tiny/pin", "1\n");
  EXPECT_EQ(repository->Retain("tiny", 1)->versions_removed, 1);
  EXPECT_THAT(*repository->ListVersionNumbers("tiny"), ElementsAre(3, 1));
}

TEST(Retain, AndPinsThatRaceNeverLoseAPinnedVersion) {
  for (int round = 0; round < 30; ++round) {
    TemporaryDirectory directory;
    const auto repository = WithVersions(directory.path(), 3);
    std::atomic<bool> go = false;
    std::thread retainer([&] {
      while (!go) std::this_thread::yield();
      EXPECT_TRUE(repository->Retain("tiny", 1).ok());
    });
    go = true;
    const absl::Status pinned = repository->Pin("tiny", 1);
    retainer.join();
    if (pinned.ok()) {
      EXPECT_THAT(*repository->ListVersionNumbers("tiny"), Contains(1));
    } else {
      EXPECT_EQ(pinned.code(), absl::StatusCode::kNotFound);
      EXPECT_EQ(*repository->Pinned("tiny"), std::nullopt);
    }
  }
}

}  // namespace
}  // namespace dreamstate::repository
