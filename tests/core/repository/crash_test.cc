// Publishing dies or fails at every system call that changes a file. What a reader sees afterwards
// is always whole.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/repository/models.h"
#include "tests/core/repository/system_calls.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::repository {
namespace {

using testing::Fault;
using ::testing::HasSubstr;
using testing::StartFault;
using testing::StopFault;
using testing::TemporaryDirectory;

size_t CountVersions(const Repository& repository) {
  const auto versions = repository.ListVersions("tiny");
  return versions.ok() ? versions->size() : 0;
}

TEST(PublishCrash, AtAnyStepLeavesNothingHalfVisible) {
  constexpr int kMoreThanEnough = 200;
  bool finished = false;
  for (int step = 1; step < kMoreThanEnough && !finished; ++step) {
    TemporaryDirectory directory;
    const auto repository = MustCreate(directory / "models");
    if (step % 2 == 0) {
      ASSERT_TRUE(PublishBackbone(*repository, 1).ok());  // dies also while the first is live
    }
    const size_t before = CountVersions(*repository);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      StartFault(repository->path(), Fault::kDie, step, 0);
      _exit(PublishBackbone(*repository, 2).ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    finished = WEXITSTATUS(status) == 0;
    ASSERT_TRUE(finished || WEXITSTATUS(status) == testing::kDied) << WEXITSTATUS(status);

    ExpectAllVersionsWhole(*repository);
    EXPECT_LE(CountVersions(*repository), before + 1);
    if (finished) {
      EXPECT_EQ(CountVersions(*repository), before + 1);
    }
    // The next publisher is not in the way of what was left, and the collector clears it up.
    const auto next = PublishBackbone(*repository, 2);
    ASSERT_TRUE(next.ok()) << next.status();
    ASSERT_TRUE(repository->Collect(absl::ZeroDuration()).ok());
    ExpectAllVersionsWhole(*repository);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(repository->path())) {
      EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr(".tmp"))) << step;
    }
  }
  EXPECT_TRUE(finished);
}

TEST(PublishFailure, AtAnyStepKeepsWhatWasThere) {
  constexpr int kMoreThanEnough = 200;
  for (const int error : {ENOSPC, EIO}) {
    int failures = 0;
    for (int step = 1; step < kMoreThanEnough; ++step) {
      TemporaryDirectory directory;
      const auto repository = MustCreate(directory / "models");
      ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
      StartFault(repository->path(), Fault::kFail, step, error);
      const auto published = PublishBackbone(*repository, 2);
      const size_t calls = StopFault().size();
      ExpectAllVersionsWhole(*repository);
      if (!published.ok()) {
        ++failures;
        EXPECT_THAT(std::string(published.status().message()), HasSubstr(repository->path()));
        EXPECT_THAT(std::string(published.status().message()), HasSubstr(strerror(error)));
      } else {
        EXPECT_EQ(CountVersions(*repository), 2u) << step;
      }
      EXPECT_TRUE(PublishBackbone(*repository, 3).ok());
      if (static_cast<int>(calls) < step) break;  // the fault lay behind the last call
    }
    EXPECT_GE(failures, 8);
  }
}

// What survives a power cut is what was synced before the name that shows it.
TEST(Publish, SyncsEverythingBeforeItIsNamed) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  StartFault(repository->path(), Fault::kNone, 0, 0);
  const auto published = PublishBackbone(*repository, 1);
  const std::vector<std::string> calls = StopFault();
  ASSERT_TRUE(published.ok());
  const std::string blob = "blobs/sha256/" + published->components[0].digest;
  const auto find = [&](const std::string& start, const std::string& end, size_t from) {
    for (size_t i = from; i < calls.size(); ++i) {
      if (calls[i].starts_with(start) && calls[i].ends_with(end)) return i;
    }
    ADD_FAILURE() << "no " << start << " … " << end << " after call " << from << ":\n"
                  << ::testing::PrintToString(calls);
    return calls.size();
  };
  const size_t blob_synced = find("fsync " + blob + ".tmp-", "", 0);
  const size_t blob_named = find("rename " + blob + ".tmp-", " " + blob, blob_synced);
  const size_t blob_name_synced = find("fsync blobs/sha256", "sha256", blob_named);
  const size_t model_made = find("mkdir bundles/tiny", "", 0);
  const size_t model_synced = find("fsync bundles", "bundles", model_made);
  const size_t manifest_synced =
      find("fsync bundles/tiny/1.json.tmp-", "", std::max(blob_name_synced, model_synced));
  const size_t linked =
      find("link bundles/tiny/1.json.tmp-", " bundles/tiny/1.json", manifest_synced);
  find("fsync bundles/tiny", "tiny", linked);
}

TEST(Publish, SaysWhenTheDirectoryIsReadOnly) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  StartFault(repository->path(), Fault::kFailFrom, 1, EROFS);
  const auto published = PublishBackbone(*repository, 1);
  StopFault();
  EXPECT_THAT(std::string(published.status().message()), HasSubstr("Read-only file system"));
  EXPECT_THAT(std::string(published.status().message()), HasSubstr(repository->path()));
}

// A fault that hits the collector leaves every named blob where it is.
TEST(Collect, ThatFailsRemovesNothingThatIsNamed) {
  for (int step = 1; step < 20; ++step) {
    TemporaryDirectory directory;
    const auto repository = MustCreate(directory / "models");
    ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
    ASSERT_TRUE(PublishBackbone(*repository, 2).ok());
    ASSERT_EQ(unlink((repository->path() + "/bundles/tiny/1.json").c_str()), 0);
    StartFault(repository->path(), Fault::kFail, step, EACCES);
    const auto report = repository->Collect(absl::ZeroDuration());
    const size_t calls = StopFault().size();
    EXPECT_EQ(report.ok(), static_cast<int>(calls) < step);
    ExpectAllVersionsWhole(*repository);
    if (report.ok()) break;
    EXPECT_THAT(std::string(report.status().message()), HasSubstr("Permission denied"));
  }
}

}  // namespace
}  // namespace dreamstate::repository
