#include "core/state/rocksdb/store.h"

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/rocksdb/keys.h"
#include "core/state/rocksdb/store_errors.h"
#include "core/text/utf8.h"
#include "rocksdb/write_batch.h"

namespace dreamstate::state {
namespace {

constexpr size_t kMaxTenantBytes = 1024;
constexpr size_t kMaxReasonBytes = 512;

absl::Status CheckTenant(std::string_view tenant) {
  if (tenant.size() <= kMaxTenantBytes) return absl::OkStatus();
  return FieldError("tenant",
                    StrCat("expected at most ", kMaxTenantBytes, " bytes, found ", tenant.size()));
}

absl::Status CheckParents(const std::vector<std::string>& parents) {
  for (size_t i = 0; i < parents.size(); ++i) {
    if (!IsStateId(parents[i])) {
      return FieldError(StrCat("lineage.parents[", i, "]"), "expected the id of a state");
    }
  }
  return absl::OkStatus();
}

// Microseconds, as rows keep them.
absl::Time Truncated(absl::Time time) { return absl::FromUnixMicros(absl::ToUnixMicros(time)); }

std::optional<absl::Time> Expiry(absl::Time now, absl::Duration time_to_live) {
  if (time_to_live == absl::ZeroDuration()) return std::nullopt;
  return Truncated(now + time_to_live);
}

Row MakeRow(Record record, const Annotations& annotations, int64_t stored_bytes) {
  Row row;
  Description& description = row.description;
  description.has_last_hidden = !record.last_hidden.empty();
  description.bytes =
      record.state.shape.bytes() + static_cast<int64_t>(record.last_hidden.size() * sizeof(float));
  description.labels = annotations.labels;
  description.expires = Expiry(record.created, annotations.time_to_live);
  description.etag = StrCat(row.revision);
  record.state.shift = {};
  record.state.wkv = {};
  record.last_hidden = {};
  record.lineage.kept_tokens = {};
  description.record = std::move(record);
  row.stored_bytes = stored_bytes;
  return row;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateStore>> OpenRocksDbStore(const RocksDbStoreOptions& options) {
  return RocksDbStore::Open(options);
}

RocksDbStore::RocksDbStore(const RocksDbStoreOptions& options) : options_(options) {}
RocksDbStore::~RocksDbStore() = default;

absl::StatusOr<std::unique_ptr<RocksDbStore>> RocksDbStore::Open(
    const RocksDbStoreOptions& options) {
  if (options.path.empty()) return FieldError("path", "expected a directory");
  if (options.max_bytes <= 0) return FieldError("max_bytes", "expected more than 0");
  if (options.reclaim_bytes <= 0) return FieldError("reclaim_bytes", "expected more than 0");
  if (options.cache_bytes < 0) return FieldError("cache_bytes", "expected 0 or more");
  DS_ASSIGN_OR_RETURN(std::unique_ptr<StoreDirectory> directory,
                      StoreDirectory::Claim(options.path));
  std::unique_ptr<RocksDbStore> store(new RocksDbStore(options));
  RocksDbStore* const self = store.get();
  store->database_ = std::make_unique<Database>(std::move(directory), options.cache_bytes,
                                                [self](Database::Handle& handle) {
                                                  DS_RETURN_IF_ERROR(self->RemoveOrphans(handle));
                                                  return self->Count(handle);
                                                });
  DS_RETURN_IF_ERROR(store->database_->Start());
  store->reclaimer_ = std::make_unique<Reclaimer>(
      store->database_.get(), options.reclaim_bytes, [self] { return self->bytes_.load(); },
      [self](const Use& use) { self->CheckAllRecords(use); });
  return store;
}

Mutex& RocksDbStore::StripeOf(std::string_view tenant, std::string_view id) {
  const std::hash<std::string_view> hash;
  return stripes_[(hash(tenant) * 31 + hash(id)) % stripes_.size()];
}

absl::Status RocksDbStore::Count(Database::Handle& handle) {
  int64_t states = 0;
  int64_t bytes = 0;
  int64_t damaged = 0;
  const std::unique_ptr<rocksdb::Iterator> entry(
      handle.db->NewIterator(rocksdb::ReadOptions(), handle.rows));
  for (entry->Seek("a"); entry->Valid() && entry->key().starts_with("a"); entry->Next()) {
    int64_t stored = 0;
    if (!absl::SimpleAtoi(entry->value().ToString(), &stored)) {
      return absl::DataLossError(
          StrCat("state store ", options_.path, ": an index entry holds no size"));
    }
    ++states;
    bytes += stored;
  }
  DS_RETURN_IF_ERROR(database_->Explain(entry->status()));
  for (entry->Seek("q"); entry->Valid() && entry->key().starts_with("q"); entry->Next()) {
    ++damaged;
  }
  DS_RETURN_IF_ERROR(database_->Explain(entry->status()));
  states_ = states;
  bytes_ = bytes;
  damaged_ = damaged;
  return absl::OkStatus();
}

StoreStats RocksDbStore::Stats() {
  const StoreMemory memory = database_->Memory();
  MutexLock lock(unreadable_mutex_);
  return {states_.load(), bytes_.load(),
          damaged_.load() + static_cast<int64_t>(unreadable_rows_.size()), memory};
}

absl::StatusOr<std::optional<Row>> RocksDbStore::FindRow(Database::Handle& handle,
                                                         std::string_view tenant,
                                                         std::string_view id,
                                                         const rocksdb::Snapshot* snapshot,
                                                         size_t* text_bytes) {
  if (!IsStateId(id)) return std::optional<Row>();
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  rocksdb::PinnableSlice text;
  const rocksdb::Status status = handle.db->Get(options, handle.rows, RowKey(tenant, id), &text);
  if (status.IsNotFound()) return std::optional<Row>();
  if (!status.ok() && !status.IsCorruption()) return database_->Explain(status);
  std::string problem;
  if (text_bytes != nullptr) *text_bytes = text.size();
  if (status.ok()) {
    absl::StatusOr<Row> row = RowFromText({text.data(), text.size()});
    if (row.ok() && row->description.record.id == id) return std::optional<Row>(*std::move(row));
    problem = row.ok() ? "is of another state" : std::string(StdView(row.status().message()));
  } else {
    problem = status.ToString();
  }
  MutexLock lock(unreadable_mutex_);
  unreadable_rows_.emplace(tenant, id);
  return StateDamaged(id, StrCat("its description: ", problem));
}

absl::StatusOr<Row> RocksDbStore::LiveRow(const Use& use, const std::string& tenant,
                                          const std::string& id) {
  DS_ASSIGN_OR_RETURN(std::optional<Row> row, FindRow(*use, tenant, id));
  if (!row.has_value() || row->description.deleted || IsExpired(*row, options_.clock->Now())) {
    return StateNotFound(id);
  }
  return *std::move(row);
}

absl::Status RocksDbStore::Replace(Database::Handle& handle, rocksdb::WriteBatch* batch,
                                   std::string_view tenant, const Row* before, const Row* after) {
  std::map<std::string, std::string> old_entries;
  std::map<std::string, std::string> new_entries;
  if (before != nullptr) old_entries = IndexEntries(tenant, *before);
  if (after != nullptr) {
    new_entries = IndexEntries(tenant, *after);
    DS_ASSIGN_OR_RETURN(const std::string text, RowToText(*after));
    batch->Put(handle.rows, RowKey(tenant, after->description.record.id), text);
  } else if (before != nullptr) {
    batch->Delete(handle.rows, RowKey(tenant, before->description.record.id));
  }
  for (const auto& [key, value] : new_entries) {
    const auto old = old_entries.find(key);
    if (old == old_entries.end() || old->second != value) batch->Put(handle.rows, key, value);
  }
  for (const auto& [key, value] : old_entries) {
    if (new_entries.find(key) == new_entries.end()) batch->Delete(handle.rows, key);
  }
  return absl::OkStatus();
}

absl::Status RocksDbStore::Reserve(int64_t bytes) {
  int64_t stored = bytes_.load();
  do {
    if (bytes > options_.max_bytes - stored) {
      return QuotaError(
          "state store bytes",
          StrCat("the state store ", options_.path, " holds ", stored, " bytes of at most ",
                 options_.max_bytes, "; ", bytes, " more do not fit"),
          std::nullopt);
    }
  } while (!bytes_.compare_exchange_weak(stored, stored + bytes));
  return absl::OkStatus();
}

absl::StatusOr<Description> RocksDbStore::Put(const std::string& tenant, Record record,
                                              const Annotations& annotations) {
  DS_RETURN_IF_ERROR(CheckTenant(tenant));
  DS_RETURN_IF_ERROR(CheckParents(record.lineage.parents));
  Annotations normal = annotations;
  DS_RETURN_IF_ERROR(NormaliseAnnotations(&normal));
  const absl::Time now = options_.clock->Now();
  record.id = ids_.Next(now);
  record.created = Truncated(now);
  DS_ASSIGN_OR_RETURN(const std::string bytes, SerializeRecord(record));
  const Row row = MakeRow(std::move(record), normal, static_cast<int64_t>(bytes.size()));

  // Nobody else knows the id yet, so no lock.
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForWriting());
  rocksdb::WriteBatch batch;
  batch.Put(use->records, RecordKey(tenant, row.description.record.id), bytes);
  DS_RETURN_IF_ERROR(Replace(*use, &batch, tenant, nullptr, &row));
  DS_RETURN_IF_ERROR(database_->CheckRoom(*use, row.stored_bytes));
  DS_RETURN_IF_ERROR(Reserve(row.stored_bytes));
  if (absl::Status status = database_->Write(*use, &batch, /*sync=*/true); !status.ok()) {
    bytes_ -= row.stored_bytes;
    return status;
  }
  ++states_;
  return row.description;
}

absl::StatusOr<std::shared_ptr<const Record>> RocksDbStore::Get(const std::string& tenant,
                                                                const std::string& id) {
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForReading());
  return Load(use, tenant, id, /*keep_in_cache=*/true);
}

absl::StatusOr<std::shared_ptr<const Record>> RocksDbStore::Load(const Use& use,
                                                                 const std::string& tenant,
                                                                 const std::string& id,
                                                                 bool keep_in_cache) {
  DS_ASSIGN_OR_RETURN(const Row row, LiveRow(use, tenant, id));
  if (!row.damage.empty()) return StateDamaged(id, row.damage);
  rocksdb::ReadOptions options;
  options.fill_cache = keep_in_cache;
  rocksdb::PinnableSlice bytes;
  const rocksdb::Status status = use->db->Get(options, use->records, RecordKey(tenant, id), &bytes);
  if (status.IsNotFound()) {
    // Deleted since its row was read, or lost.
    DS_ASSIGN_OR_RETURN(const Row still_there, LiveRow(use, tenant, id));
    return SetAside(use, tenant, id, "its bytes are missing", nullptr);
  }
  if (status.IsCorruption()) return SetAside(use, tenant, id, status.ToString(), nullptr);
  if (!status.ok()) return database_->Explain(status);
  absl::StatusOr<Record> record = ParseRecord(StrCat("states/", id), {bytes.data(), bytes.size()});
  if (!record.ok()) return SetAside(use, tenant, id, StdView(record.status().message()), &bytes);
  if (record->id != id) {
    return SetAside(use, tenant, id, StrCat("it holds states/", record->id), &bytes);
  }
  return std::make_shared<const Record>(*std::move(record));
}

absl::Status RocksDbStore::SetAside(const Use& use, const std::string& tenant,
                                    const std::string& id, std::string_view reason,
                                    const rocksdb::Slice* bytes) {
  // The reason may quote what is damaged.
  std::string printable(reason);
  if (printable.size() > kMaxReasonBytes || !text::IsValidUtf8(printable)) {
    printable = "its bytes are not a whole record";
  }
  MutexLock lock(StripeOf(tenant, id));
  DS_ASSIGN_OR_RETURN(const std::optional<Row> row, FindRow(*use, tenant, id));
  if (!row.has_value() || row->description.deleted) return StateNotFound(id);
  if (!row->damage.empty()) return StateDamaged(id, row->damage);
  Row damaged = *row;
  damaged.damage = printable;
  rocksdb::WriteBatch batch;
  DS_RETURN_IF_ERROR(Replace(*use, &batch, tenant, &*row, &damaged));
  if (bytes != nullptr) batch.Put(use->records, SetAsideKey(tenant, id), *bytes);
  batch.Delete(use->records, RecordKey(tenant, id));
  // When this cannot be written the next reader finds the same damage.
  if (database_->Write(*use, &batch, /*sync=*/false).ok()) ++damaged_;
  return StateDamaged(id, printable);
}

void RocksDbStore::CheckAllRecords(const Use& use) {
  const std::unique_ptr<rocksdb::Iterator> entry(
      use->db->NewIterator(rocksdb::ReadOptions(), use->rows));
  for (entry->Seek("r"); entry->Valid() && entry->key().starts_with("r"); entry->Next()) {
    if (use->closing) return;
    std::string tenant;
    std::string id;
    if (!SplitKey({entry->key().data(), entry->key().size()}, &tenant, &id)) continue;
    // Sets damaged ones aside; other errors are met again by whoever asks for the record.
    Load(use, tenant, id, /*keep_in_cache=*/false).status().IgnoreError();
  }
}

absl::StatusOr<Description> RocksDbStore::Describe(const std::string& tenant,
                                                   const std::string& id) {
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForReading());
  DS_ASSIGN_OR_RETURN(std::optional<Row> row, FindRow(*use, tenant, id));
  if (!row.has_value() || IsExpired(*row, options_.clock->Now())) return StateNotFound(id);
  return std::move(row->description);
}

absl::StatusOr<Description> RocksDbStore::Update(
    const std::string& tenant, const std::string& id, const std::string& etag,
    const std::optional<std::vector<std::string>>& labels,
    const std::optional<absl::Duration>& time_to_live) {
  Annotations annotations{labels.value_or(std::vector<std::string>()),
                          time_to_live.value_or(absl::ZeroDuration())};
  DS_RETURN_IF_ERROR(NormaliseAnnotations(&annotations));
  DS_ASSIGN_OR_RETURN(const Use use, database_->ForWriting());
  MutexLock lock(StripeOf(tenant, id));
  DS_ASSIGN_OR_RETURN(const Row before, LiveRow(use, tenant, id));
  DS_RETURN_IF_ERROR(CheckEtag(etag, before));
  Row after = before;
  if (labels.has_value()) after.description.labels = annotations.labels;
  if (time_to_live.has_value()) {
    after.description.expires = Expiry(options_.clock->Now(), annotations.time_to_live);
  }
  after.description.etag = StrCat(++after.revision);
  rocksdb::WriteBatch batch;
  DS_RETURN_IF_ERROR(Replace(*use, &batch, tenant, &before, &after));
  DS_RETURN_IF_ERROR(database_->Write(*use, &batch, /*sync=*/true));
  return after.description;
}

}  // namespace dreamstate::state
