#include "core/state/pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "gtest/gtest.h"
#include "tests/core/state/state_fixtures.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::MakeRecord;

// A store in memory that counts its reads, can hold them up, and can lose a state behind the pool's
// back.
class ScriptedStore final : public StateStore {
 public:
  struct Script {
    Mutex mutex;
    ConditionVariable changed;
    std::map<std::string, std::shared_ptr<const Record>> records;
    int reads = 0;
    bool held_up = false;
    absl::Status failure;
  };
  explicit ScriptedStore(std::shared_ptr<Script> script) : script_(std::move(script)) {}

  absl::StatusOr<Description> Put(const std::string&, Record record, const Annotations&) override {
    MutexLock lock(script_->mutex);
    record.id = std::to_string(script_->records.size());
    Description description;
    description.record.id = record.id;
    script_->records[description.record.id] = std::make_shared<const Record>(std::move(record));
    return description;
  }
  absl::StatusOr<std::shared_ptr<const Record>> Get(const std::string&,
                                                    const std::string& id) override {
    MutexLock lock(script_->mutex);
    ++script_->reads;
    script_->changed.NotifyAll();
    while (script_->held_up) script_->changed.Wait(script_->mutex);
    if (!script_->failure.ok()) return script_->failure;
    if (script_->records.count(id) == 0) return absl::NotFoundError(id);
    return script_->records[id];
  }
  absl::StatusOr<Description> Describe(const std::string&, const std::string& id) override {
    MutexLock lock(script_->mutex);
    if (script_->records.count(id) == 0) return absl::NotFoundError(id);
    return Description();
  }
  absl::StatusOr<ListPage> List(const std::string&, const ListQuery&) override {
    return ListPage();
  }
  absl::StatusOr<Description> Update(const std::string&, const std::string&, const std::string&,
                                     const std::optional<std::vector<std::string>>&,
                                     const std::optional<absl::Duration>&) override {
    return Description();
  }
  absl::Status Delete(const std::string&, const std::string& id, const std::string&) override {
    MutexLock lock(script_->mutex);
    return script_->records.erase(id) > 0 ? absl::OkStatus() : absl::NotFoundError(id);
  }
  absl::StatusOr<int> SweepExpired(int) override { return 0; }
  StoreStats Stats() override { return {}; }

 private:
  const std::shared_ptr<Script> script_;
};

// Tensors of one record: shift 32, wkv 64, last_hidden 8 values, 3 tokens.
constexpr int64_t kOne = (32 + 64 + 8 + 3) * 4;

class Pool : public ::testing::Test {
 protected:
  void Make(int64_t max_bytes) {
    pool_ = std::make_unique<PooledStateStore>(std::make_unique<ScriptedStore>(script_), max_bytes);
  }
  std::string PutBelow(uint64_t seed) {
    return ScriptedStore(script_).Put("t", MakeRecord(seed), {})->record.id;
  }
  int reads() {
    MutexLock lock(script_->mutex);
    return script_->reads;
  }
  std::shared_ptr<ScriptedStore::Script> script_ = std::make_shared<ScriptedStore::Script>();
  std::unique_ptr<PooledStateStore> pool_;
};

TEST_F(Pool, WhatWasReadOrPutIsNotReadAgain) {
  Make(10 * kOne);
  const std::string below = PutBelow(1);
  const std::string through = pool_->Put("t", MakeRecord(2), {})->record.id;
  EXPECT_EQ(pool_->Get("t", below).value(), pool_->Get("t", below).value());
  EXPECT_EQ(pool_->Get("t", through).value()->state, MakeRecord(2).state);
  EXPECT_EQ(pool_->Get("t", through).value()->id, through);
  EXPECT_EQ(reads(), 1);
  EXPECT_EQ(pool_->pool_stats().hits, 3);
  EXPECT_EQ(pool_->pool_stats().misses, 1);
  EXPECT_EQ(pool_->pool_stats().records, 2);
  EXPECT_EQ(pool_->pool_stats().bytes, 2 * kOne);
}

TEST_F(Pool, TheLeastRecentlyUsedGoesFirstAndTheBoundHolds) {
  Make(3 * kOne + kOne / 2);
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(PutBelow(i));
  for (const int i : {0, 1, 2, 0, 3}) ASSERT_TRUE(pool_->Get("t", ids[i]).ok());
  EXPECT_EQ(pool_->pool_stats().bytes, 3 * kOne);
  EXPECT_EQ(pool_->pool_stats().evicted, 1);
  const int before = reads();
  ASSERT_TRUE(pool_->Get("t", ids[0]).ok());
  ASSERT_TRUE(pool_->Get("t", ids[2]).ok());
  EXPECT_EQ(reads(), before);
  ASSERT_TRUE(pool_->Get("t", ids[1]).ok());
  EXPECT_EQ(reads(), before + 1);
}

TEST_F(Pool, ARecordLargerThanThePoolIsServedAndNotKept) {
  Make(kOne - 1);
  const std::string id = pool_->Put("t", MakeRecord(1), {})->record.id;
  ASSERT_TRUE(pool_->Get("t", id).ok());
  ASSERT_TRUE(pool_->Get("t", id).ok());
  EXPECT_EQ(reads(), 2);
  EXPECT_EQ(pool_->pool_stats().bytes, 0);
  Make(0);
  ASSERT_TRUE(pool_->Get("t", id).ok());
  EXPECT_EQ(pool_->pool_stats().records, 0);
}

TEST_F(Pool, ConcurrentMissesOfOneStateReadItOnce) {
  Make(10 * kOne);
  const std::string id = PutBelow(1);
  script_->held_up = true;
  std::atomic<int> served{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] { served += pool_->Get("t", id).ok() ? 1 : 0; });
  }
  while (pool_->pool_stats().misses < 6) std::this_thread::yield();
  {
    MutexLock lock(script_->mutex);
    EXPECT_EQ(script_->reads, 1);
    script_->held_up = false;
    script_->changed.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, 6);
  EXPECT_EQ(reads(), 1);
}

TEST_F(Pool, AFailedReadIsToldAndTriedAgain) {
  Make(10 * kOne);
  const std::string id = PutBelow(1);
  script_->failure = absl::UnavailableError("disk");
  EXPECT_TRUE(absl::IsUnavailable(pool_->Get("t", id).status()));
  script_->failure = absl::OkStatus();
  EXPECT_TRUE(pool_->Get("t", id).ok());
}

TEST_F(Pool, WhatIsGoneIsNeverServedWhoeverRemovedIt) {
  Make(10 * kOne);
  const std::string mine = pool_->Put("t", MakeRecord(1), {})->record.id;
  const std::string others = pool_->Put("t", MakeRecord(2), {})->record.id;
  ASSERT_TRUE(pool_->Delete("t", mine, "").ok());
  ASSERT_TRUE(ScriptedStore(script_).Delete("t", others, "").ok());
  EXPECT_TRUE(absl::IsNotFound(pool_->Get("t", mine).status()));
  EXPECT_TRUE(absl::IsNotFound(pool_->Get("t", others).status()));
  EXPECT_EQ(pool_->pool_stats().bytes, 0);
}

TEST_F(Pool, ADeleteDuringAReadWins) {
  Make(10 * kOne);
  const std::string id = PutBelow(1);
  script_->held_up = true;
  std::thread reader([&] { pool_->Get("t", id).status().IgnoreError(); });
  while (reads() == 0) std::this_thread::yield();
  ASSERT_TRUE(pool_->Delete("t", id, "").ok());
  {
    MutexLock lock(script_->mutex);
    script_->held_up = false;
    script_->changed.NotifyAll();
  }
  reader.join();
  EXPECT_TRUE(absl::IsNotFound(pool_->Get("t", id).status()));
}

TEST_F(Pool, TenantsWithTheSameIdAreApart) {
  Make(10 * kOne);
  const std::string id = PutBelow(1);
  const auto a = pool_->Get("a", id);
  const auto b = pool_->Get("b", id);
  EXPECT_EQ(reads(), 2);
}

}  // namespace
}  // namespace dreamstate::state
