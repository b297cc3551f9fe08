// Deleting, expiring, and the stubs that deleted parents leave.
//
// A stub lives while a row names it as parent. Removing a row and looking whether its parents are
// stubs that nobody names any more are separate steps, each under the lock of one id alone; a mark
// written with the first ("orphan?", keys.h) is removed with the second, so that a crash between
// them leaves work for the next opening and no stub for ever. Every child's removal has a mark of
// its own and looks under the parent's lock, so of two children that go at once the later look sees
// that both are gone.
#include <utility>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/rocksdb/keys.h"
#include "core/state/rocksdb/store.h"
#include "core/state/rocksdb/store_errors.h"
#include "rocksdb/write_batch.h"

namespace dreamstate::state {
namespace {

Row StubOf(const Row& row) {
  Row stub;
  stub.description.record = row.description.record;
  stub.description.deleted = true;
  stub.revision = row.revision + 1;
  return stub;
}

void MarkParents(Database::Handle& handle, rocksdb::WriteBatch* batch, std::string_view tenant,
                 const Record& record) {
  for (const std::string& parent : record.lineage.parents) {
    batch->Put(handle.rows, OrphanKey(tenant, parent, record.id), "");
  }
}

}  // namespace

absl::StatusOr<bool> RocksDbStore::HasChildren(Database::Handle& handle, std::string_view tenant,
                                               std::string_view id) {
  const std::string prefix = ChildPrefix(tenant, id);
  const std::string end = EndOfPrefix(prefix);
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> entry(handle.db->NewIterator(options, handle.rows));
  entry->Seek(prefix);
  if (entry->Valid()) return true;
  DS_RETURN_IF_ERROR(database_->Explain(entry->status()));
  return false;
}

absl::Status RocksDbStore::Remove(const Use& use, const std::string& tenant, const std::string& id,
                                  const std::function<absl::Status(const Row&)>& check, bool sync) {
  std::vector<std::string> parents;
  {
    MutexLock lock(StripeOf(tenant, id));
    DS_ASSIGN_OR_RETURN(const std::optional<Row> row, FindRow(*use, tenant, id));
    if (!row.has_value() || row->description.deleted) return StateNotFound(id);
    DS_RETURN_IF_ERROR(check(*row));
    DS_ASSIGN_OR_RETURN(const bool has_children, HasChildren(*use, tenant, id));
    rocksdb::WriteBatch batch;
    batch.Delete(use->records,
                 row->damage.empty() ? RecordKey(tenant, id) : SetAsideKey(tenant, id));
    if (has_children) {
      const Row stub = StubOf(*row);
      DS_RETURN_IF_ERROR(Replace(*use, &batch, tenant, &*row, &stub));
    } else {
      DS_RETURN_IF_ERROR(Replace(*use, &batch, tenant, &*row, nullptr));
      MarkParents(*use, &batch, tenant, row->description.record);
      parents = row->description.record.lineage.parents;
    }
    DS_RETURN_IF_ERROR(database_->Write(*use, &batch, sync));
    --states_;
    bytes_ -= row->stored_bytes;
    if (!row->damage.empty()) --damaged_;
    reclaimer_->Deleted(row->stored_bytes);
  }
  for (const std::string& parent : parents) {
    // The state is gone whatever comes of this; the marks stay for the next opening.
    if (!RemoveIfOrphan(*use, tenant, parent, id).ok()) break;
  }
  return absl::OkStatus();
}

absl::Status RocksDbStore::RemoveUnreadable(const Use& use, const std::string& tenant,
                                            const std::string& id) {
  std::vector<std::string> parents;
  {
    MutexLock lock(StripeOf(tenant, id));
    if (const auto row = FindRow(*use, tenant, id); !absl::IsDataLoss(row.status())) {
      return row.ok() ? StateNotFound(id) : row.status();  // somebody else removed it
    }
    rocksdb::WriteBatch batch;
    batch.Delete(use->rows, RowKey(tenant, id));
    batch.Delete(use->records, RecordKey(tenant, id));
    batch.Delete(use->records, SetAsideKey(tenant, id));
    bool live = false;
    bool set_aside = false;
    int64_t stored_bytes = 0;
    // Which entries it has only its row said, so all are looked through: slow, and rare.
    const std::unique_ptr<rocksdb::Iterator> entry(
        use->db->NewIterator(rocksdb::ReadOptions(), use->rows));
    for (entry->SeekToFirst(); entry->Valid(); entry->Next()) {
      const std::string_view key(entry->key().data(), entry->key().size());
      if (!IsIndexEntryOf(key, tenant, id)) continue;
      batch.Delete(use->rows, entry->key());
      std::string unused, parent;
      if (key[0] == 'a') {
        live = true;
        if (!absl::SimpleAtoi(entry->value().ToString(), &stored_bytes)) stored_bytes = 0;
      } else if (key[0] == 'q') {
        set_aside = true;
      } else if (key[0] == 'c' && SplitOrphanKey(key, &unused, &parent, &unused)) {
        batch.Put(use->rows, OrphanKey(tenant, parent, id), "");
        parents.push_back(parent);
      }
    }
    DS_RETURN_IF_ERROR(database_->Explain(entry->status()));
    DS_RETURN_IF_ERROR(database_->Write(*use, &batch, /*sync=*/true));
    if (live) --states_;
    if (set_aside) --damaged_;
    bytes_ -= stored_bytes;
    reclaimer_->Deleted(stored_bytes);
    MutexLock unreadable_lock(unreadable_mutex_);
    unreadable_rows_.erase({tenant, id});
  }
  for (const std::string& parent : parents) {
    if (!RemoveIfOrphan(*use, tenant, parent, id).ok()) break;  // the marks stay, as in Remove
  }
  return absl::OkStatus();
}

absl::Status RocksDbStore::RemoveIfOrphan(Database::Handle& handle, const std::string& tenant,
                                          const std::string& parent, const std::string& child) {
  std::vector<std::pair<std::string, std::string>> to_look_at = {{parent, child}};
  while (!to_look_at.empty()) {
    const auto [id, removed] = std::move(to_look_at.back());
    to_look_at.pop_back();
    MutexLock lock(StripeOf(tenant, id));
    rocksdb::WriteBatch batch;
    absl::StatusOr<std::optional<Row>> found = FindRow(handle, tenant, id);
    // A row that cannot be read may be a stub or not; it stays until it is deleted.
    if (absl::IsDataLoss(found.status())) found = std::optional<Row>();
    DS_ASSIGN_OR_RETURN(const std::optional<Row> row, std::move(found));
    if (row.has_value() && row->description.deleted) {
      DS_ASSIGN_OR_RETURN(const bool has_children, HasChildren(handle, tenant, id));
      if (!has_children) {
        DS_RETURN_IF_ERROR(Replace(handle, &batch, tenant, &*row, nullptr));
        MarkParents(handle, &batch, tenant, row->description.record);
        for (const std::string& next : row->description.record.lineage.parents) {
          to_look_at.emplace_back(next, id);
        }
      }
    }
    batch.Delete(handle.rows, OrphanKey(tenant, id, removed));
    DS_RETURN_IF_ERROR(database_->Write(handle, &batch, /*sync=*/false));
  }
  return absl::OkStatus();
}

absl::Status RocksDbStore::RemoveOrphans(Database::Handle& handle) {
  const std::unique_ptr<rocksdb::Iterator> entry(
      handle.db->NewIterator(rocksdb::ReadOptions(), handle.rows));
  for (entry->Seek("g"); entry->Valid() && entry->key().starts_with("g"); entry->Next()) {
    std::string tenant;
    std::string parent;
    std::string child;
    if (!SplitOrphanKey({entry->key().data(), entry->key().size()}, &tenant, &parent, &child)) {
      continue;
    }
    DS_RETURN_IF_ERROR(RemoveIfOrphan(handle, tenant, parent, child));
  }
  return database_->Explain(entry->status());
}

absl::Status RocksDbStore::Delete(const std::string& tenant, const std::string& id,
                                  const std::string& etag) {
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForWriting());
  const auto check = [&](const Row& row) {
    return IsExpired(row, options_.clock->Now()) ? StateNotFound(id) : CheckEtag(etag, row);
  };
  const absl::Status status = Remove(use, tenant, id, check, /*sync=*/true);
  // An etag cannot be compared with a row that cannot be read.
  if (!absl::IsDataLoss(status) || !etag.empty()) return status;
  // With a row that can be read it was the write that failed.
  if (!absl::IsDataLoss(FindRow(*use, tenant, id).status())) return status;
  return RemoveUnreadable(use, tenant, id);
}

absl::StatusOr<int> RocksDbStore::SweepExpired(int limit) {
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForWriting());
  const absl::Time now = options_.clock->Now();
  const auto check = [&](const Row& row) {
    return IsExpired(row, now) ? absl::OkStatus() : StateNotFound(row.description.record.id);
  };
  int removed = 0;
  const std::unique_ptr<rocksdb::Iterator> entry(
      use->db->NewIterator(rocksdb::ReadOptions(), use->rows));
  for (entry->Seek("x"); entry->Valid() && entry->key().starts_with("x") && removed < limit;
       entry->Next()) {
    absl::Time expires;
    std::string tenant;
    std::string id;
    if (!SplitExpiryKey({entry->key().data(), entry->key().size()}, &expires, &tenant, &id)) {
      continue;
    }
    if (expires > now) break;
    // Not synced: after a crash it has still expired, and is swept again.
    const absl::Status status = Remove(use, tenant, id, check, /*sync=*/false);
    if (status.ok()) ++removed;
    // Deleted or given more time since the index was read; or its row cannot be read, which must
    // not keep the others.
    if (!status.ok() && !absl::IsNotFound(status) && !absl::IsDataLoss(status)) return status;
  }
  DS_RETURN_IF_ERROR(database_->Explain(entry->status()));
  return removed;
}

}  // namespace dreamstate::state
