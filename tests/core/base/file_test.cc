#include "core/base/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TemporaryDirectory;
using testing::WriteAll;

std::string TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, ShowsTheFilesBytes) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", std::string("ab\0c", 4));
  const auto file = MappedFile::Open(directory / "file");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(TextOf(**file), std::string("ab\0c", 4));
  EXPECT_EQ((*file)->path(), directory / "file");
}

TEST(MappedFile, OfNothingIsEmpty) {
  TemporaryDirectory directory;
  WriteAll(directory / "empty", "");
  const auto file = MappedFile::Open(directory / "empty");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->bytes().empty());
}

TEST(MappedFile, OutlivesItsNameAndItsReplacement) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "old");
  const auto file = MappedFile::Open(directory / "file");
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(WriteFileAtomically(directory / "file", "new and longer").ok());
  EXPECT_EQ(TextOf(**file), "old");
  ASSERT_EQ(unlink((directory / "file").c_str()), 0);
  EXPECT_EQ(TextOf(**file), "old");
}

TEST(MappedFile, RefusesWhatIsNotARegularFileWithoutWaiting) {
  TemporaryDirectory directory;
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  const std::string paths[] = {directory / "pipe", directory.path(), "/dev/null"};
  for (const std::string& path : paths) {
    const absl::Status mapped = MappedFile::Open(path).status();
    EXPECT_EQ(mapped.code(), absl::StatusCode::kFailedPrecondition) << mapped;
    EXPECT_THAT(std::string(mapped.message()), HasSubstr(path));
    EXPECT_EQ(ReadFile(path, 100).status().code(), absl::StatusCode::kFailedPrecondition);
  }
}

TEST(Files, AMissingOneIsNotFoundWithPathAndReason) {
  TemporaryDirectory directory;
  for (const absl::Status& status :
       {MappedFile::Open(directory / "none").status(), ReadFile(directory / "none", 10).status(),
        WriteFileAtomically(directory / "none/file", "x")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr(directory / "none"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("No such file or directory"));
  }
}

TEST(ReadFile, HonoursItsLimit) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "12345");
  EXPECT_EQ(*ReadFile(directory / "file", 5), "12345");
  const absl::Status refused = ReadFile(directory / "file", 4).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(), directory / "file" + ": expected at most 4 bytes, found 5");
}

TEST(ReadFile, ReadsFilesThatGiveNoSize) {
  // Files of /proc are regular and report no bytes.
  EXPECT_THAT(*ReadFile("/proc/self/status", 1 << 20), HasSubstr("Name:"));
  EXPECT_EQ(ReadFile("/proc/self/status", 10).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(WriteFileAtomically, WritesPiecesInOrderAndLeavesNothingElse) {
  TemporaryDirectory directory;
  const std::string a = "one ", b, c = "two";
  const std::array pieces{std::as_bytes(std::span(a)), std::as_bytes(std::span(b)),
                          std::as_bytes(std::span(c))};
  ASSERT_TRUE(WriteFileAtomically(directory / "file", pieces).ok());
  EXPECT_EQ(ReadAll(directory / "file"), "one two");
  EXPECT_THAT(directory.Names(), ElementsAre("file"));
}

TEST(WriteFileAtomically, AReaderSeesTheOldOrTheNewWhole) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  const std::string old_text(100000, 'a'), new_text(300000, 'b');
  ASSERT_TRUE(WriteFileAtomically(path, old_text).ok());
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; i < 50; ++i) {
      EXPECT_TRUE(WriteFileAtomically(path, i % 2 == 0 ? new_text : old_text).ok());
    }
    done = true;
  });
  while (!done) {
    const auto text = ReadFile(path, 1 << 20);
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_TRUE(*text == old_text || *text == new_text) << text->size();
  }
  writer.join();
  EXPECT_THAT(directory.Names(), ElementsAre("file"));
}

TEST(WriteFileAtomically, AFailureLeavesTheOldFileAndNoOther) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  // A limit on file sizes stands for a disk that fills in the middle of a write. In a child: the
  // limit is the process's.
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10000, 10000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const absl::Status status = WriteFileAtomically(path, std::string(1 << 20, 'n'));
    const bool good = !status.ok() && std::string(status.message()).find(path) != std::string::npos;
    _exit(good ? 0 : 1);
  }
  int result = 0;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(ReadAll(path), "old");
  EXPECT_THAT(directory.Names(), ElementsAre("file"));
}

TEST(WriteFileAtomically, OntoADirectoryFailsAndLeavesNothingBehind) {
  TemporaryDirectory directory;
  ASSERT_EQ(mkdir((directory / "taken").c_str(), 0700), 0);
  EXPECT_FALSE(WriteFileAtomically(directory / "taken", "x").ok());
  EXPECT_THAT(directory.Names(), ElementsAre("taken"));
}

TEST(MakeDirectories, MakesWhatIsMissingAndKeepsWhatIsThere) {
  TemporaryDirectory directory;
  EXPECT_TRUE(MakeDirectories(directory / "a/b/c").ok());
  WriteAll(directory / "a/b/c/file", "x");
  EXPECT_TRUE(MakeDirectories(directory / "a/b/c").ok());
  EXPECT_TRUE(MakeDirectories(directory / "a/b/d/").ok());
  EXPECT_EQ(*ListDirectory(directory / "a/b"), (std::vector<std::string>{"c", "d"}));
  for (const char* taken : {"a/b/c/file", "a/b/c/file/below"}) {
    const absl::Status status = MakeDirectories(directory / taken);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(directory / "a/b/c/file"));
  }
}

TEST(ListDirectory, OfNothingIsNotFound) {
  TemporaryDirectory directory;
  EXPECT_TRUE(ListDirectory(directory.path())->empty());
  EXPECT_EQ(ListDirectory(directory / "none").status().code(), absl::StatusCode::kNotFound);
  WriteAll(directory / "file", "x");
  EXPECT_FALSE(ListDirectory(directory / "file").ok());
}

TEST(SyncDirectory, RefusesAFile) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "x");
  EXPECT_TRUE(SyncDirectory(directory.path()).ok());
  EXPECT_FALSE(SyncDirectory(directory / "file").ok());
  EXPECT_EQ(SyncDirectory(directory / "none").code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace dreamstate
