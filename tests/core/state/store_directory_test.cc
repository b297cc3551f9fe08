// Where a store may live, and what happens when its place fails: full, read-only, gone.
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/state/store_fixture.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::kTenant;
using ::dreamstate::testing::ListAll;
using ::dreamstate::testing::MakeRecord;
using ::dreamstate::testing::ReadAll;
using ::dreamstate::testing::StoreFixture;
using ::dreamstate::testing::TemporaryDirectory;
using ::dreamstate::testing::WriteAll;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

absl::Status OpenAt(const std::string& path) {
  RocksDbStoreOptions options;
  options.path = path;
  return OpenRocksDbStore(options).status();
}

TEST(StoreDirectory, IsMadeWhenItsParentExists) {
  TemporaryDirectory directory;
  EXPECT_TRUE(OpenAt(directory / "new").ok());
  EXPECT_TRUE(OpenAt(directory / "new").ok());
  const absl::Status orphan = OpenAt(directory / "missing/new");
  EXPECT_TRUE(absl::IsFailedPrecondition(orphan)) << orphan;
  EXPECT_THAT(MessageOf(orphan), HasSubstr(directory / "missing/new"));
}

TEST(StoreDirectory, AnEmptyFileSystemWillDo) {
  TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "lost+found");
  EXPECT_TRUE(OpenAt(directory.path()).ok());
}

TEST(StoreDirectory, AFileIsRefused) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "mine");
  const absl::Status status = OpenAt(directory / "file");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("expected a directory"));
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenAt(directory / "file/below")));
  EXPECT_EQ(ReadAll(directory / "file"), "mine");
}

TEST(StoreDirectory, SomebodyElsesDirectoryIsRefusedAndLeftAsItWas) {
  TemporaryDirectory directory;
  WriteAll(directory / "thesis.txt", "do not touch");
  const absl::Status status = OpenAt(directory.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("thesis.txt"));
  EXPECT_THAT(directory.Names(), ::testing::ElementsAre("thesis.txt"));
}

TEST(StoreDirectory, ANewerSchemaIsRefused) {
  TemporaryDirectory directory;
  ASSERT_TRUE(OpenAt(directory / "store").ok());
  WriteAll(directory / "store/dreamstate-store.json",
           R"({"kind": "dreamstate state store", "schema": 2})");
  const absl::Status status = OpenAt(directory / "store");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("schema 2, newer than this program's 1"));
}

TEST(StoreDirectory, AMarkerThatSaysSomethingElseIsRefused) {
  TemporaryDirectory directory;
  ASSERT_TRUE(OpenAt(directory / "store").ok());
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string(R"({"kind": 1})"),
        std::string(R"({"kind": "other", "schema": 1})"), std::string(100'000, ' '),
        std::string(R"({"kind": "dreamstate state store", "schema": -1})")}) {
    WriteAll(directory / "store/dreamstate-store.json", text);
    const absl::Status status = OpenAt(directory / "store");
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_THAT(MessageOf(status), HasSubstr(directory / "store"));
  }
}

TEST(StoreDirectory, BadOptionsNameTheField) {
  TemporaryDirectory directory;
  RocksDbStoreOptions options;
  EXPECT_EQ(DetailsOf(OpenRocksDbStore(options).status()).field, "path");
  options.path = directory / "store";
  options.max_bytes = 0;
  EXPECT_EQ(DetailsOf(OpenRocksDbStore(options).status()).field, "max_bytes");
  options.max_bytes = 1 << 20;
  options.cache_bytes = -1;
  EXPECT_EQ(DetailsOf(OpenRocksDbStore(options).status()).field, "cache_bytes");
}

TEST(StoreDirectory, AStoreThatVanishesIsUnavailableAndAcknowledgesNothing) {
  for (const char* gone : {"", "/db", "/dreamstate-store.lock"}) {
    StoreFixture fixture;
    fixture.Put(1);
    std::filesystem::remove_all(fixture.options.path + gone);
    const absl::Status status = fixture.store->Put(kTenant, MakeRecord(2), {}).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(MessageOf(status), HasSubstr(fixture.options.path));
    EXPECT_TRUE(DetailsOf(status).retry_after.has_value());
  }
}

// A small file system of its own.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& options) : path_(directory_ / "disk") {
    std::filesystem::create_directory(path_);
    if (mount("none", path_.c_str(), "tmpfs", 0, options.c_str()) != 0) error_ = errno;
  }
  ~SmallDisk() {
    if (error_ == 0) umount2(path_.c_str(), MNT_DETACH);
  }
  std::string WhyNot() const {
    return std::string("mounting is not permitted here: ") + strerror(error_);
  }
  bool mounted() const { return error_ == 0; }
  bool Remount(unsigned long flags) {
    return mount("none", path_.c_str(), "tmpfs", MS_REMOUNT | flags, "") == 0;
  }
  const std::string& path() const { return path_; }

 private:
  TemporaryDirectory directory_;
  std::string path_;
  int error_ = 0;
};

constexpr Shape kLargeShape{.layers = 8, .width = 256, .heads = 4, .head_size = 64};  // 541 kB

class FailingStore {
 public:
  explicit FailingStore(const std::string& path) {
    options_.path = path;
    Open();
  }
  void Open() {
    auto opened = OpenRocksDbStore(options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
  }
  absl::Status Put() {
    const auto put = store_->Put(kTenant, MakeRecord(ids_.size(), kLargeShape), {});
    if (put.ok()) ids_.push_back(put->record.id);
    return put.status();
  }
  // Until it is refused, at most `limit` times.
  absl::Status PutUntilRefused(int limit) {
    for (int i = 0; i < limit; ++i) {
      if (const absl::Status status = Put(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  // Until it is accepted; a store tries to come back once a second at most.
  absl::Status PutUntilAccepted() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
      const absl::Status status = Put();
      if (status.ok() || std::chrono::steady_clock::now() > deadline) return status;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  void ExpectEverythingIsThere() {
    EXPECT_THAT(ListAll(*store_, kTenant, {}), SizeIs(ids_.size()));
    for (const std::string& id : ids_) {
      EXPECT_TRUE(store_->Get(kTenant, id).ok()) << store_->Get(kTenant, id).status();
    }
    EXPECT_EQ(store_->Stats().states, static_cast<int64_t>(ids_.size()));
  }
  void ExpectEverythingIsThereAfterReopening() {
    store_.reset();
    Open();
    ExpectEverythingIsThere();
  }
  absl::Status DeleteOne() {
    const std::string id = ids_.back();
    ids_.pop_back();
    return store_->Delete(kTenant, id, "");
  }

 private:
  RocksDbStoreOptions options_;
  std::unique_ptr<StateStore> store_;
  std::vector<std::string> ids_;
};

TEST(StoreDirectory, AFullDiskIsToldAndCanBeDeletedFrom) {
  SmallDisk disk("size=100m");
  if (!disk.mounted()) GTEST_SKIP() << disk.WhyNot();
  FailingStore store(disk.path() + "/store");
  ASSERT_TRUE(store.Put().ok());
  const size_t available = std::filesystem::space(disk.path()).available;
  WriteAll(disk.path() + "/filler", std::string(available - 12'000'000, 'x'));
  const absl::Status refused = store.PutUntilRefused(100);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(DetailsOf(refused).quota_subject, "disk space");
  EXPECT_THAT(MessageOf(refused), HasSubstr(disk.path()));
  EXPECT_TRUE(absl::IsResourceExhausted(store.Put()));
  store.ExpectEverythingIsThere();
  EXPECT_TRUE(store.DeleteOne().ok());
  store.ExpectEverythingIsThere();
  std::filesystem::remove(disk.path() + "/filler");
  EXPECT_TRUE(store.Put().ok());
  store.ExpectEverythingIsThereAfterReopening();
}

// Nothing can be written beyond so many bytes of a file: a disk that fails in the middle of a
// write.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST(StoreDirectory, AfterAWriteFailedReadingGoesOnAndWritingComesBack) {
  // With nothing in memory RocksDB's own way of going on fails.
  for (const int states_before : {0, 3}) {
    TemporaryDirectory directory;
    FailingStore store(directory / "store");
    for (int i = 0; i < states_before; ++i) ASSERT_TRUE(store.Put().ok());
    {
      const FileSizeLimit limit(
          static_cast<rlim_t>(kLargeShape.bytes()) * static_cast<rlim_t>(states_before) + 200'000);
      const absl::Status failed = store.Put();
      EXPECT_TRUE(absl::IsUnavailable(failed)) << failed;
      EXPECT_THAT(MessageOf(failed), HasSubstr(directory / "store"));
      store.ExpectEverythingIsThere();
    }
    for (int i = 0; i < 3; ++i) {
      const absl::Status back = store.PutUntilAccepted();
      EXPECT_TRUE(back.ok()) << back;
    }
    store.ExpectEverythingIsThere();
    store.ExpectEverythingIsThereAfterReopening();
  }
}

TEST(StoreDirectory, WhenNoFileCanBeMadeItIsToldAndTheStoreComesBack) {
  SmallDisk disk("size=256m,nr_inodes=64");
  if (!disk.mounted()) GTEST_SKIP() << disk.WhyNot();
  FailingStore store(disk.path() + "/store");
  std::vector<std::string> fillers;
  for (;;) {
    const std::string filler = disk.path() + "/filler" + std::to_string(fillers.size());
    if (!std::ofstream(filler).is_open()) break;
    fillers.push_back(filler);
  }
  // The log is there already; what it holds does not get to files.
  const absl::Status refused = store.PutUntilRefused(400);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(MessageOf(refused), HasSubstr(disk.path()));
  store.ExpectEverythingIsThere();
  for (const std::string& filler : fillers) std::filesystem::remove(filler);
  const absl::Status back = store.PutUntilAccepted();
  EXPECT_TRUE(back.ok()) << back;
  store.ExpectEverythingIsThere();
  store.ExpectEverythingIsThereAfterReopening();
}

TEST(StoreDirectory, ADiskTooFullToOpenIsTold) {
  SmallDisk disk("size=1m");
  if (!disk.mounted()) GTEST_SKIP() << disk.WhyNot();
  WriteAll(disk.path() + "/filler", std::string((1 << 20) - 8192, 'x'));
  const absl::Status status = OpenAt(disk.path() + "/store");
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr(disk.path()));
}

TEST(StoreDirectory, AReadOnlyDiskIsUnavailable) {
  SmallDisk disk("size=16m");
  if (!disk.mounted()) GTEST_SKIP() << disk.WhyNot();
  RocksDbStoreOptions options;
  options.path = disk.path() + "/store";
  ASSERT_TRUE(OpenAt(options.path).ok());
  ASSERT_TRUE(disk.Remount(MS_RDONLY)) << strerror(errno);
  for (const std::string& path : {options.path, disk.path() + "/new"}) {
    const absl::Status status = OpenAt(path);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(MessageOf(status), HasSubstr(path));
  }
  ASSERT_TRUE(disk.Remount(0));
  EXPECT_TRUE(OpenAt(options.path).ok());
}

TEST(StoreDirectory, WithoutPermissionItIsUnavailable) {
  if (geteuid() == 0) GTEST_SKIP() << "permissions do not bind root";
  TemporaryDirectory directory;
  ASSERT_TRUE(OpenAt(directory / "store").ok());
  chmod((directory / "store").c_str(), 0);
  const absl::Status status = OpenAt(directory / "store");
  chmod((directory / "store").c_str(), 0700);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

}  // namespace
}  // namespace dreamstate::state
