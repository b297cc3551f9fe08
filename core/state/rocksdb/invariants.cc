#include <map>
#include <set>
#include <string>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/rocksdb/keys.h"
#include "core/state/rocksdb/store.h"

namespace dreamstate::state {
namespace {

using Entries = std::map<std::string, std::string>;

Entries ReadAll(const Database::Use& use, rocksdb::ColumnFamilyHandle* family) {
  Entries entries;
  const std::unique_ptr<rocksdb::Iterator> entry(
      use->db->NewIterator(rocksdb::ReadOptions(), family));
  for (entry->SeekToFirst(); entry->Valid(); entry->Next()) {
    entries.emplace(entry->key().ToString(), entry->value().ToString());
  }
  return entries;
}

absl::Status Broken(std::string_view what, std::string_view id) {
  return absl::InternalError(StrCat(what, ": ", id));
}

}  // namespace

absl::Status RocksDbStore::CheckInvariants() {
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForReading());
  const Entries found = ReadAll(use, use->rows);
  const Entries records = ReadAll(use, use->records);
  Entries expected;
  std::set<std::string> expected_records;
  StoreStats sums;
  for (const auto& [key, value] : found) {
    if (key[0] != 'r') continue;
    std::string tenant;
    std::string id;
    if (!SplitKey(key, &tenant, &id)) return Broken("not a row's key", key);
    DS_ASSIGN_OR_RETURN(const Row row, RowFromText(value));
    if (row.description.record.id != id) return Broken("row of another id", id);
    expected.emplace(key, value);
    expected.merge(IndexEntries(tenant, row));
    if (row.description.deleted) {
      DS_ASSIGN_OR_RETURN(const bool has_children, HasChildren(*use, tenant, id));
      if (!has_children) return Broken("stub without a child", id);
      continue;
    }
    ++sums.states;
    sums.bytes += row.stored_bytes;
    if (row.damage.empty()) {
      const auto record = records.find(RecordKey(tenant, id));
      if (record == records.end()) return Broken("row without a record", id);
      if (static_cast<int64_t>(record->second.size()) != row.stored_bytes) {
        return Broken("record of another size than its row says", id);
      }
      expected_records.insert(record->first);
    } else {
      ++sums.damaged;
      expected_records.insert(SetAsideKey(tenant, id));
    }
  }
  for (const auto& [key, value] : expected) {
    const auto entry = found.find(key);
    if (entry == found.end() || entry->second != value) return Broken("missing entry", key);
  }
  for (const auto& [key, value] : found) {
    if (expected.find(key) == expected.end()) return Broken("entry that no row has", key);
  }
  for (const auto& [key, value] : records) {
    if (expected_records.find(key) == expected_records.end()) {
      return Broken("record without a row", key);
    }
  }
  const StoreStats stats = Stats();
  if (stats.states != sums.states || stats.bytes != sums.bytes || stats.damaged != sums.damaged) {
    return absl::InternalError(StrCat("totals: counted ", sums.states, " states, ", sums.bytes,
                                      " bytes, ", sums.damaged, " damaged; kept ", stats.states,
                                      ", ", stats.bytes, ", ", stats.damaged));
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::state
