// Damage on the disk is found, told and set aside; what is whole goes on being served.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "core/base/status.h"
#include "core/state/rocksdb/keys.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"
#include "tests/core/state/store_fixture.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::Difference;
using ::dreamstate::testing::FilesEndingIn;
using ::dreamstate::testing::FlipByte;
using ::dreamstate::testing::kTenant;
using ::dreamstate::testing::ListAll;
using ::dreamstate::testing::MakeRecord;
using ::dreamstate::testing::StoreFixture;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Where `record`'s wkv lies in a file, or -1.
int64_t Find(const std::string& path, const Record& record) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string_view needle(reinterpret_cast<const char*>(record.state.wkv.data()),
                                record.state.wkv.size() * sizeof(float));
  const size_t at = bytes.find(needle);
  return at == std::string::npos ? -1 : static_cast<int64_t>(at);
}

// Flips a bit of the stored tensors of `record`, in whatever files with that ending hold them.
int Damage(const std::string& directory, const std::string& ending, const Record& record) {
  int flipped = 0;
  for (const std::string& path : FilesEndingIn(directory, ending)) {
    if (const int64_t at = Find(path, record); at >= 0) {
      FlipByte(path, at + 17, 0x10);
      ++flipped;
    }
  }
  return flipped;
}

// The closed store's database, opened beside the store's code.
class RawDatabase {
 public:
  explicit RawDatabase(const std::string& store_path) {
    rocksdb::DB* db = nullptr;
    const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
        {rocksdb::kDefaultColumnFamilyName, {}}, {"records", {}}};
    const rocksdb::Status status =
        rocksdb::DB::Open(rocksdb::DBOptions(), store_path + "/db", families, &handles_, &db);
    EXPECT_TRUE(status.ok()) << status.ToString();
    db_.reset(db);
  }
  ~RawDatabase() {
    for (auto* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
  }
  std::string GetRecord(const std::string& id) {
    std::string value;
    EXPECT_TRUE(db_->Get({}, handles_[1], RecordKey(kTenant, id), &value).ok());
    return value;
  }
  void PutRecord(const std::string& id, const std::string& bytes) {
    EXPECT_TRUE(db_->Put({}, handles_[1], RecordKey(kTenant, id), bytes).ok());
  }
  void DeleteRecord(const std::string& id) {
    EXPECT_TRUE(db_->Delete({}, handles_[1], RecordKey(kTenant, id)).ok());
  }
  void PutRow(const std::string& id, const std::string& text) {
    EXPECT_TRUE(db_->Put({}, handles_[0], RowKey(kTenant, id), text).ok());
  }

 private:
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
};

class DamagedStore : public ::testing::TestWithParam<bool> {
 protected:
  // `id` is damaged: told so each time, also after reopening, and can be deleted; `whole` is not
  // touched by it.
  void ExpectSetAside(const std::string& id, const std::string& whole) {
    for (int opening = 0; opening < 2; ++opening) {
      for (int attempt = 0; attempt < 2; ++attempt) {
        const absl::Status status = fixture_.store->Get(kTenant, id).status();
        EXPECT_TRUE(absl::IsDataLoss(status)) << status;
        ASSERT_TRUE(DetailsOf(status).resource.has_value());
        EXPECT_EQ(DetailsOf(status).resource->name, "states/" + id);
      }
      EXPECT_EQ(fixture_.CodeOfGet(whole), absl::StatusCode::kOk);
      EXPECT_EQ(fixture_.store->Stats().damaged, 1);
      EXPECT_EQ(fixture_.store->Stats().states, 2);
      EXPECT_THAT(ListAll(*fixture_.store, kTenant, {}), SizeIs(2));
      EXPECT_TRUE(fixture_.rocksdb->CheckInvariants().ok()) << fixture_.rocksdb->CheckInvariants();
      fixture_.Reopen();
    }
    EXPECT_TRUE(fixture_.store->Delete(kTenant, id, "").ok());
    EXPECT_EQ(fixture_.CodeOfGet(id), absl::StatusCode::kNotFound);
    EXPECT_EQ(fixture_.store->Stats().damaged, 0);
    EXPECT_TRUE(fixture_.rocksdb->CheckInvariants().ok()) << fixture_.rocksdb->CheckInvariants();
  }
  StoreFixture fixture_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(, DamagedStore, ::testing::Values(false, true), [](const auto& parameter) {
  return parameter.param ? "Pooled" : "Plain";
});

TEST_P(DamagedStore, AFlippedBitInABlobFileIsDataLossForThatStateAlone) {
  const std::string id = fixture_.Put(1);
  const std::string whole = fixture_.Put(2);
  fixture_.Reopen();  // recovery writes what the log holds to blob files
  fixture_.Close();
  ASSERT_EQ(Damage(fixture_.directory(), ".blob", MakeRecord(1)), 1);
  fixture_.Open();
  ExpectSetAside(id, whole);
}

TEST_P(DamagedStore, BytesThatAreNoRecordAreDataLoss) {
  const std::string id = fixture_.Put(1);
  const std::string whole = fixture_.Put(2);
  fixture_.Close();
  RawDatabase(fixture_.options.path).PutRecord(id, "no record at all");
  fixture_.Open();
  ExpectSetAside(id, whole);
}

TEST_P(DamagedStore, ARecordInAnothersPlaceIsDataLoss) {
  const std::string id = fixture_.Put(1);
  const std::string whole = fixture_.Put(2);
  fixture_.Close();
  {
    RawDatabase database(fixture_.options.path);
    database.PutRecord(id, database.GetRecord(whole));
  }
  fixture_.Open();
  ExpectSetAside(id, whole);
}

TEST_P(DamagedStore, ABitFlippedBeforeRocksDbSawItIsDataLoss) {
  const std::string id = fixture_.Put(1);
  const std::string whole = fixture_.Put(2);
  fixture_.Close();
  {
    RawDatabase database(fixture_.options.path);
    std::string bytes = database.GetRecord(id);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    database.PutRecord(id, bytes);
  }
  fixture_.Open();
  ExpectSetAside(id, whole);
}

TEST_P(DamagedStore, ALostRecordIsDataLoss) {
  const std::string id = fixture_.Put(1);
  const std::string whole = fixture_.Put(2);
  fixture_.Close();
  RawDatabase(fixture_.options.path).DeleteRecord(id);
  fixture_.Open();
  EXPECT_TRUE(absl::IsDataLoss(fixture_.store->Get(kTenant, id).status()));
  EXPECT_EQ(fixture_.CodeOfGet(whole), absl::StatusCode::kOk);
}

TEST_P(DamagedStore, ADamagedRowIsDataLossAndNothingWorse) {
  const std::string id = fixture_.Put(1);
  const std::string whole = fixture_.Put(2);
  fixture_.Close();
  RawDatabase(fixture_.options.path).PutRow(id, "{\"record\":{}");
  fixture_.Open();
  EXPECT_TRUE(absl::IsDataLoss(fixture_.store->Describe(kTenant, id).status()));
  EXPECT_TRUE(absl::IsDataLoss(fixture_.store->Get(kTenant, id).status()));
  EXPECT_TRUE(absl::IsDataLoss(fixture_.store->Delete(kTenant, id, "1")));
  EXPECT_THAT(ListAll(*fixture_.store, kTenant, {}), ElementsAre(whole));
  EXPECT_EQ(fixture_.store->Stats().damaged, 1);
  EXPECT_EQ(fixture_.store->Stats().states, 2);
}

TEST_P(DamagedStore, AStateWithADamagedRowIsDeletedWithAllThatNamesIt) {
  const std::string parent = fixture_.Put(1);
  Record child = MakeRecord(2);
  child.lineage.parents = {parent};
  const std::string id = fixture_.Put(child, {{"label"}, absl::Hours(1)});
  const std::string whole = fixture_.Put(3);
  ASSERT_TRUE(fixture_.store->Delete(kTenant, parent, "").ok());  // a stub stays for the child
  fixture_.Close();
  RawDatabase(fixture_.options.path).PutRow(id, "no row");
  fixture_.Open();
  EXPECT_TRUE(fixture_.store->Delete(kTenant, id, "").ok());
  EXPECT_TRUE(absl::IsNotFound(fixture_.store->Describe(kTenant, id).status()));
  EXPECT_TRUE(absl::IsNotFound(fixture_.store->Describe(kTenant, parent).status()));
  EXPECT_TRUE(absl::IsNotFound(fixture_.store->Delete(kTenant, id, "")));
  EXPECT_EQ(fixture_.store->Stats().damaged, 0);
  EXPECT_THAT(ListAll(*fixture_.store, kTenant, {}), ElementsAre(whole));
  // Rows, indexes, records and totals agree again.
  EXPECT_TRUE(fixture_.rocksdb->CheckInvariants().ok()) << fixture_.rocksdb->CheckInvariants();
}

TEST_P(DamagedStore, ADamagedRowDoesNotKeepOtherStatesFromExpiring) {
  const std::string id = fixture_.Put(MakeRecord(1), {{}, absl::Minutes(1)});
  fixture_.Put(MakeRecord(2), {{}, absl::Minutes(2)});
  fixture_.Close();
  RawDatabase(fixture_.options.path).PutRow(id, "no row");
  fixture_.Open();
  fixture_.clock.Advance(absl::Hours(1));
  for (const int expected : {1, 0}) {
    const absl::StatusOr<int> swept = fixture_.store->SweepExpired(10);
    ASSERT_TRUE(swept.ok()) << swept.status();
    EXPECT_EQ(*swept, expected);
  }
  EXPECT_TRUE(fixture_.store->Delete(kTenant, id, "").ok());
  EXPECT_TRUE(fixture_.rocksdb->CheckInvariants().ok()) << fixture_.rocksdb->CheckInvariants();
}

TEST_P(DamagedStore, ADamagedStubDoesNotKeepTheStoreFromOpening) {
  const std::string parent = fixture_.Put(1);
  const std::string child = fixture_.PutChild(2, {parent});
  ASSERT_TRUE(fixture_.store->Delete(kTenant, parent, "").ok());
  fixture_.Close();
  RawDatabase(fixture_.options.path).PutRow(parent, "no row");
  fixture_.Open();
  EXPECT_TRUE(fixture_.store->Delete(kTenant, child, "").ok());
  fixture_.Reopen();
  EXPECT_TRUE(absl::IsDataLoss(fixture_.store->Describe(kTenant, parent).status()));
  EXPECT_TRUE(fixture_.store->Delete(kTenant, parent, "").ok());
  EXPECT_TRUE(fixture_.rocksdb->CheckInvariants().ok()) << fixture_.rocksdb->CheckInvariants();
}

TEST(StateStore, ADamagedLogIsToldAtOpeningRatherThanLosingWhatWasAcknowledged) {
  StoreFixture fixture;
  for (int i = 0; i < 5; ++i) fixture.Put(i);
  fixture.Close();
  ASSERT_EQ(Damage(fixture.directory(), ".log", MakeRecord(2)), 1);
  const auto opened = OpenRocksDbStore(fixture.options);
  ASSERT_TRUE(absl::IsDataLoss(opened.status())) << opened.status();
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr(fixture.options.path));
  // Put right again, nothing is missing.
  ASSERT_EQ(Damage(fixture.directory(), ".log",
                   [] {
                     Record record = MakeRecord(2);
                     auto* bytes = reinterpret_cast<unsigned char*>(record.state.wkv.data());
                     bytes[17] ^= 0x10;
                     return record;
                   }()),
            1);
  fixture.Open();
  EXPECT_THAT(ListAll(*fixture.store, kTenant, {}), SizeIs(5));
}

// Freeing space.

constexpr Shape kLargeShape{.layers = 4, .width = 128, .heads = 2, .head_size = 64};  // 135 kB

int64_t BlobBytes(const StoreFixture& fixture) {
  int64_t bytes = 0;
  for (const std::string& path : FilesEndingIn(fixture.directory(), ".blob")) {
    std::error_code vanished;
    const auto size = std::filesystem::file_size(path, vanished);
    if (!vanished) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

TEST(StateStore, DeletingFreesDiskSpaceAlsoBetweenKeptStates) {
  StoreFixture fixture;
  fixture.options.reclaim_bytes = 1 << 20;
  std::vector<std::string> ids;
  for (int i = 0; i < 60; ++i) ids.push_back(fixture.Put(MakeRecord(i, kLargeShape)));
  fixture.Reopen();
  const int64_t before = BlobBytes(fixture);
  ASSERT_GT(before, 60 * kLargeShape.bytes());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i % 5 != 0) {
      ASSERT_TRUE(fixture.store->Delete(kTenant, ids[i], "").ok());
    }
  }
  EXPECT_TRUE(Eventually([&] { return BlobBytes(fixture) < before / 2; })) << BlobBytes(fixture);
  for (size_t i = 0; i < ids.size(); i += 5) {
    const auto found = fixture.store->Get(kTenant, ids[i]);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(Difference(MakeRecord(i, kLargeShape), **found), "");
  }
  EXPECT_TRUE(fixture.rocksdb->CheckInvariants().ok()) << fixture.rocksdb->CheckInvariants();
}

TEST(StateStore, FreeingSpaceSetsADamagedRecordAsideAndGoesOn) {
  StoreFixture fixture;
  fixture.options.reclaim_bytes = 1 << 20;
  std::vector<std::string> ids;
  for (int i = 0; i < 60; ++i) ids.push_back(fixture.Put(MakeRecord(i, kLargeShape)));
  fixture.Reopen();
  fixture.Close();
  ASSERT_EQ(Damage(fixture.directory(), ".blob", MakeRecord(10, kLargeShape)), 1);
  fixture.Open();
  const int64_t before = BlobBytes(fixture);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i % 5 != 0) {
      ASSERT_TRUE(fixture.store->Delete(kTenant, ids[i], "").ok());
    }
  }
  EXPECT_TRUE(Eventually([&] { return BlobBytes(fixture) < before / 2; })) << BlobBytes(fixture);
  EXPECT_EQ(fixture.store->Stats().damaged, 1);
  EXPECT_TRUE(absl::IsDataLoss(fixture.store->Get(kTenant, ids[10]).status()));
  EXPECT_EQ(fixture.CodeOfGet(ids[15]), absl::StatusCode::kOk);
  fixture.Put(1);
}

}  // namespace
}  // namespace dreamstate::state
