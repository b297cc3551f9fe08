// The StateStore on RocksDB. Every change is one write batch: row, indexes and record together.
// Changes of one id are serialised by striped mutexes, which are held across the write of that id
// alone. What a listing, a quota or a stub needs is a function of the rows (keys.h), so nothing is
// kept that could disagree with them.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/state/identifier.h"
#include "core/state/rocksdb/database.h"
#include "core/state/rocksdb/reclaim.h"
#include "core/state/rocksdb/row.h"
#include "core/state/store.h"

namespace dreamstate::state {

class RocksDbStore final : public StateStore {
 public:
  static absl::StatusOr<std::unique_ptr<RocksDbStore>> Open(const RocksDbStoreOptions& options);
  ~RocksDbStore() override;

  absl::StatusOr<Description> Put(const std::string& tenant, Record record,
                                  const Annotations& annotations) override;
  absl::StatusOr<std::shared_ptr<const Record>> Get(const std::string& tenant,
                                                    const std::string& id) override;
  absl::StatusOr<Description> Describe(const std::string& tenant, const std::string& id) override;
  absl::StatusOr<ListPage> List(const std::string& tenant, const ListQuery& query) override;
  absl::StatusOr<Description> Update(const std::string& tenant, const std::string& id,
                                     const std::string& etag,
                                     const std::optional<std::vector<std::string>>& labels,
                                     const std::optional<absl::Duration>& time_to_live) override;
  absl::Status Delete(const std::string& tenant, const std::string& id,
                      const std::string& etag) override;
  absl::StatusOr<int> SweepExpired(int limit) override;
  StoreStats Stats() override;

  // For tests, while nothing else is called: the indexes are what the rows say and no more, every
  // live row has its record, no stub is without a child, and the totals are the sums. INTERNAL
  // naming the first that is not so.
  absl::Status CheckInvariants();

 private:
  using Use = Database::Use;

  explicit RocksDbStore(const RocksDbStoreOptions& options);

  // After every opening: finishes removals that a crash interrupted, and counts what is stored.
  absl::Status RemoveOrphans(Database::Handle& handle);
  absl::Status Count(Database::Handle& handle);

  // DATA_LOSS when the row cannot be read or is no row of that state; such a one is then counted as
  // damaged. `text_bytes`, when given, is set to the row's size where there is one.
  absl::StatusOr<std::optional<Row>> FindRow(Database::Handle& handle, std::string_view tenant,
                                             std::string_view id,
                                             const rocksdb::Snapshot* snapshot = nullptr,
                                             size_t* text_bytes = nullptr);
  // The row of a state that is neither deleted nor expired; NOT_FOUND otherwise.
  absl::StatusOr<Row> LiveRow(const Use& use, const std::string& tenant, const std::string& id);
  absl::StatusOr<bool> HasChildren(Database::Handle& handle, std::string_view tenant,
                                   std::string_view id);

  // Adds to `batch` what turns the row and indexes of `before` into those of `after`; null = none.
  static absl::Status Replace(Database::Handle& handle, rocksdb::WriteBatch* batch,
                              std::string_view tenant, const Row* before, const Row* after);
  absl::Status Reserve(int64_t bytes);

  // Removes a state, leaving a stub when children name it. `check` may refuse, under the lock.
  absl::Status Remove(const Use& use, const std::string& tenant, const std::string& id,
                      const std::function<absl::Status(const Row&)>& check, bool sync);
  // Removes a state whose row cannot be read: row, record, and the index entries that name it. No
  // stub is left, children or not, for there is nothing to make it of.
  absl::Status RemoveUnreadable(const Use& use, const std::string& tenant, const std::string& id);
  // Looks whether `parent`, of which `child` was removed, is a stub without children, and so on
  // upwards.
  absl::Status RemoveIfOrphan(Database::Handle& handle, const std::string& tenant,
                              const std::string& parent, const std::string& child);

  // Reads and checks a record; a damaged one is set aside.
  absl::StatusOr<std::shared_ptr<const Record>> Load(const Use& use, const std::string& tenant,
                                                     const std::string& id, bool keep_in_cache);
  // Marks the record as damaged, moves what can be read of it (`bytes`, or null) aside, and answers
  // DATA_LOSS.
  absl::Status SetAside(const Use& use, const std::string& tenant, const std::string& id,
                        std::string_view reason, const rocksdb::Slice* bytes);
  void CheckAllRecords(const Use& use);

  Mutex& StripeOf(std::string_view tenant, std::string_view id);

  const RocksDbStoreOptions options_;
  IdSource ids_;
  std::array<Mutex, 64> stripes_;
  std::atomic<int64_t> states_{0};
  std::atomic<int64_t> bytes_{0};
  std::atomic<int64_t> damaged_{0};
  mutable Mutex unreadable_mutex_;
  // Tenant and id of rows that were found to be no rows since this store was opened.
  std::set<std::pair<std::string, std::string>> unreadable_rows_ ABSL_GUARDED_BY(unreadable_mutex_);
  std::unique_ptr<Database> database_;
  std::unique_ptr<Reclaimer> reclaimer_;  // last: its thread uses what is above
};

}  // namespace dreamstate::state
