#include "core/state/pool.h"

#include <list>
#include <map>
#include <utility>

#include "core/base/mutex.h"
#include "core/base/status.h"

namespace dreamstate::state {
namespace {

using Key = std::pair<std::string, std::string>;  // tenant, id
using RecordPtr = std::shared_ptr<const Record>;

int64_t TensorBytes(const Record& record) {
  return static_cast<int64_t>(
      (record.state.shift.size() + record.state.wkv.size() + record.last_hidden.size()) *
          sizeof(float) +
      record.lineage.kept_tokens.size() * sizeof(int32_t));
}

// A read of the store that others wait for.
struct Loading {
  bool done = false;
  absl::StatusOr<RecordPtr> result = absl::UnknownError("is being read");
};

}  // namespace

struct PooledStateStore::Impl {
  Impl(std::unique_ptr<StateStore> below, int64_t max) : store(std::move(below)), max_bytes(max) {}

  struct Pooled {
    RecordPtr record;
    int64_t bytes = 0;
    std::list<Key>::iterator place;
  };

  void Add(const Key& key, RecordPtr record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const int64_t bytes = TensorBytes(*record);
    if (bytes > max_bytes || records.count(key) > 0) return;
    while (stats.bytes > max_bytes - bytes) {
      Drop(Key(by_use.back()));
      ++stats.evicted;
    }
    by_use.push_front(key);
    records[key] = {std::move(record), bytes, by_use.begin()};
    stats.bytes += bytes;
    ++stats.records;
  }

  void Drop(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto found = records.find(key);
    if (found == records.end()) return;
    stats.bytes -= found->second.bytes;
    --stats.records;
    by_use.erase(found->second.place);
    records.erase(found);
  }

  const std::unique_ptr<StateStore> store;
  const int64_t max_bytes;
  mutable Mutex mutex;
  ConditionVariable loaded;
  std::map<Key, Pooled> records ABSL_GUARDED_BY(mutex);
  std::list<Key> by_use ABSL_GUARDED_BY(mutex);  // most recently used first
  std::map<Key, std::shared_ptr<Loading>> loading ABSL_GUARDED_BY(mutex);
  PoolStats stats ABSL_GUARDED_BY(mutex);
};

PooledStateStore::PooledStateStore(std::unique_ptr<StateStore> store, int64_t max_bytes)
    : impl_(std::make_unique<Impl>(std::move(store), max_bytes)) {}

PooledStateStore::~PooledStateStore() = default;

PoolStats PooledStateStore::pool_stats() const {
  MutexLock lock(impl_->mutex);
  return impl_->stats;
}

absl::StatusOr<Description> PooledStateStore::Put(const std::string& tenant, Record record,
                                                  const Annotations& annotations) {
  // What was just made is often decoded from next. A record too large for the pool is not copied.
  std::shared_ptr<Record> pooled;
  if (TensorBytes(record) <= impl_->max_bytes) pooled = std::make_shared<Record>(record);
  absl::StatusOr<Description> description =
      impl_->store->Put(tenant, std::move(record), annotations);
  if (description.ok() && pooled != nullptr) {
    pooled->id = description->record.id;
    pooled->created = description->record.created;
    const Key key(tenant, pooled->id);
    MutexLock lock(impl_->mutex);
    impl_->Add(key, std::move(pooled));
  }
  return description;
}

absl::StatusOr<std::shared_ptr<const Record>> PooledStateStore::Get(const std::string& tenant,
                                                                    const std::string& id) {
  Impl& impl = *impl_;
  const Key key(tenant, id);
  // The row decides, and is small: what was deleted or has expired is never served, whoever did it
  // and whenever it was pooled.
  absl::StatusOr<Description> description = impl.store->Describe(tenant, id);
  if (!description.ok() || description->deleted) {
    MutexLock lock(impl.mutex);
    impl.Drop(key);
    // The store below knows the words for a stub.
    if (!description.ok()) return description.status();
  }
  std::shared_ptr<Loading> loading;
  {
    MutexLock lock(impl.mutex);
    if (const auto found = impl.records.find(key); found != impl.records.end()) {
      ++impl.stats.hits;
      impl.by_use.splice(impl.by_use.begin(), impl.by_use, found->second.place);
      return found->second.record;
    }
    ++impl.stats.misses;
    if (const auto found = impl.loading.find(key); found != impl.loading.end()) {
      loading = found->second;
      while (!loading->done) impl.loaded.Wait(impl.mutex);
      return loading->result;
    }
    loading = std::make_shared<Loading>();
    impl.loading[key] = loading;
  }
  absl::StatusOr<RecordPtr> result = impl.store->Get(tenant, id);
  MutexLock lock(impl.mutex);
  loading->result = result;
  loading->done = true;
  impl.loading.erase(key);
  impl.loaded.NotifyAll();
  if (result.ok()) impl.Add(key, *result);
  return result;
}

absl::StatusOr<Description> PooledStateStore::Describe(const std::string& tenant,
                                                       const std::string& id) {
  return impl_->store->Describe(tenant, id);
}

absl::StatusOr<ListPage> PooledStateStore::List(const std::string& tenant, const ListQuery& query) {
  return impl_->store->List(tenant, query);
}

absl::StatusOr<Description> PooledStateStore::Update(
    const std::string& tenant, const std::string& id, const std::string& etag,
    const std::optional<std::vector<std::string>>& labels,
    const std::optional<absl::Duration>& time_to_live) {
  return impl_->store->Update(tenant, id, etag, labels, time_to_live);
}

absl::Status PooledStateStore::Delete(const std::string& tenant, const std::string& id,
                                      const std::string& etag) {
  const absl::Status status = impl_->store->Delete(tenant, id, etag);
  if (status.ok() || absl::IsNotFound(status)) {
    MutexLock lock(impl_->mutex);
    impl_->Drop({tenant, id});
  }
  return status;
}

absl::StatusOr<int> PooledStateStore::SweepExpired(int limit) {
  return impl_->store->SweepExpired(limit);
}

StoreStats PooledStateStore::Stats() { return impl_->store->Stats(); }

}  // namespace dreamstate::state
