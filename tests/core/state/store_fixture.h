// A store in a temporary directory, plain or under a pool, that can be closed and opened again.
#pragma once

#include <memory>
#include <string>

#include "core/state/pool.h"
#include "core/state/rocksdb/store.h"
#include "gtest/gtest.h"
#include "tests/core/state/state_fixtures.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::testing {

inline constexpr char kTenant[] = "default";

class StoreFixture {
 public:
  explicit StoreFixture(bool pooled = false) : pooled_(pooled) {
    options.path = directory_ / "store";
    options.clock = &clock;
    Open();
  }

  void Open() {
    absl::StatusOr<std::unique_ptr<state::RocksDbStore>> opened =
        state::RocksDbStore::Open(options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    rocksdb = opened->get();
    store = *std::move(opened);
    if (pooled_) {
      store = std::make_unique<state::PooledStateStore>(std::move(store), int64_t{1} << 20);
    }
  }
  void Close() { store.reset(); }
  void Reopen() {
    Close();
    Open();
  }

  // The id of a new state.
  std::string Put(const state::Record& record, const state::Annotations& annotations = {},
                  const std::string& tenant = kTenant) {
    const absl::StatusOr<state::Description> description = store->Put(tenant, record, annotations);
    EXPECT_TRUE(description.ok()) << description.status();
    return description.ok() ? description->record.id : "";
  }
  std::string Put(uint64_t seed) { return Put(MakeRecord(seed)); }
  std::string PutChild(uint64_t seed, std::vector<std::string> parents) {
    state::Record record = MakeRecord(seed);
    record.lineage.parents = std::move(parents);
    return Put(record);
  }
  absl::StatusCode CodeOfGet(const std::string& id, const std::string& tenant = kTenant) {
    return store->Get(tenant, id).status().code();
  }

  const std::string& directory() const { return directory_.path(); }

  FakeClock clock;
  state::RocksDbStoreOptions options;
  std::unique_ptr<state::StateStore> store;
  state::RocksDbStore* rocksdb = nullptr;  // the plain store inside

 private:
  TemporaryDirectory directory_;
  const bool pooled_;
};

}  // namespace dreamstate::testing
