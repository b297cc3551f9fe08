#include "core/base/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using testing::TemporaryDirectory;
using testing::WriteAll;

std::string TextOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappingGuard, AFileThatIsTruncatedWhileItIsMappedReadsAsZeros) {
  TemporaryDirectory directory;
  const std::string contents(5 * 4096 + 7, 'x');
  WriteAll(directory / "file", contents);
  const auto file = MappedFile::Open(directory / "file");
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(TextOf(**file), contents);
  const auto shorter = MappedFile::Open(directory / "file");
  ASSERT_EQ(truncate((directory / "file").c_str(), 4096), 0);
  EXPECT_FALSE((*file)->lost());
  EXPECT_EQ(TextOf(**file), std::string(4096, 'x') + std::string(4 * 4096 + 7, '\0'));
  EXPECT_TRUE((*file)->lost());
  EXPECT_TRUE(LostPages((*file)->bytes().subspan(100)));
  EXPECT_FALSE((*shorter)->lost());  // nothing of it was read
  EXPECT_FALSE(LostPages((*shorter)->bytes()));
  EXPECT_FALSE(LostPages(std::as_bytes(std::span(contents))));
  // What was lost stays lost, so a hash taken afterwards tells.
  WriteAll(directory / "file", contents);
  EXPECT_EQ((*file)->bytes()[2 * 4096], std::byte{0});
  EXPECT_TRUE((*file)->lost());
}

TEST(MappingGuard, ManyMappingsComeAndGo) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "abc");
  for (int round = 0; round < 3; ++round) {
    std::vector<std::shared_ptr<const MappedFile>> files;
    for (size_t i = 0; i < kMostGuardedMappings + 10; ++i) {
      files.push_back(MappedFile::Open(directory / "file").value());
    }
  }
  const auto last = MappedFile::Open(directory / "file").value();
  ASSERT_EQ(truncate((directory / "file").c_str(), 0), 0);
  EXPECT_EQ(TextOf(*last), std::string(3, '\0'));
}

TEST(MappingGuard, WhatOneHasLostIsNotSaidOfTheNext) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "abc");
  auto first = MappedFile::Open(directory / "file").value();
  ASSERT_EQ(truncate((directory / "file").c_str(), 0), 0);
  EXPECT_EQ(TextOf(*first), std::string(3, '\0'));
  EXPECT_TRUE(first->lost());
  first.reset();
  WriteAll(directory / "file", "abc");
  const auto second = MappedFile::Open(directory / "file").value();
  EXPECT_EQ(TextOf(*second), "abc");
  EXPECT_FALSE(second->lost());
}

TEST(MappingGuardDeathTest, AFaultElsewhereEndsTheProgramAsBefore) {
  const auto fault = [] {
    TemporaryDirectory directory;
    WriteAll(directory / "guarded", "abc");
    const auto guarded = MappedFile::Open(directory / "guarded").value();
    std::FILE* file = std::tmpfile();
    void* page = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    _exit(static_cast<const volatile char*>(page)[0]);
  };
  EXPECT_DEATH(fault(), "");
}

TEST(MappingGuardDeathTest, ASignalThatWasSentEndsTheProgramAsBefore) {
  const auto send = [] {
    TemporaryDirectory directory;
    WriteAll(directory / "guarded", "abc");
    const auto guarded = MappedFile::Open(directory / "guarded").value();
    raise(SIGBUS);
    _exit(0);
  };
  EXPECT_DEATH(send(), "");
}

int signals_seen = 0;

TEST(MappingGuardDeathTest, AnEarlierHandlerIsCalledAndTheGuardsStay) {
  // The child starts anew, without the guards of the tests before.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto send = [] {
    signal(SIGBUS, [](int) { ++signals_seen; });
    TemporaryDirectory directory;
    WriteAll(directory / "guarded", "abc");
    const auto guarded = MappedFile::Open(directory / "guarded").value();
    raise(SIGBUS);
    if (signals_seen != 1) _exit(1);
    if (truncate((directory / "guarded").c_str(), 0) != 0) _exit(2);
    _exit(TextOf(*guarded) == std::string(3, '\0') && guarded->lost() && signals_seen == 1 ? 0 : 3);
  };
  EXPECT_EXIT(send(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace dreamstate
