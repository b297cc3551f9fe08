#include "core/state/rocksdb/database.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/base/dynamic_annotations.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "rocksdb/cache.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"

namespace dreamstate::state {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr char kRecordsFamily[] = "records";
constexpr absl::Duration kRetryDelay = absl::Seconds(5);
// A database that fails at once is not opened over and over.
constexpr std::chrono::seconds kReopenInterval{1};
// Kept free for deleting, for opening again and for RocksDB's small files.
constexpr int64_t kReservedBytes = 8 * int64_t{kMiB};

// RocksDB's own log of events is not kept: what fails is told by statuses, and writing that log to
// a full disk ends the process where RocksDB is built with assertions, as Debian's is.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::DBOptions MakeDatabaseOptions() {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // A torn last record is a write that nobody was told of. Any other damage to the log would lose
  // what was acknowledged, so the database is not opened over it in silence.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.max_total_wal_size = 128 * kMiB;
  // A new log would take 36 MiB at once, which CheckRoom does not count: on a disk that is nearly
  // full the flush that follows would find no room, and then nothing could be deleted any more.
  options.allow_fallocate = false;
  options.max_background_jobs = 2;
  options.max_open_files = 512;  // a process is often allowed 1024
  options.info_log = std::make_shared<NoLog>();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

rocksdb::ColumnFamilyOptions MakeRowOptions(const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = 16 * kMiB;
  options.compression = rocksdb::kLZ4Compression;
  return options;
}

rocksdb::ColumnFamilyOptions MakeRecordOptions(const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options = MakeRowOptions(cache);
  options.write_buffer_size = 32 * kMiB;
  options.enable_blob_files = true;
  options.min_blob_size = 0;
  options.blob_file_size = 128 * kMiB;
  // fp32 states do not pay for it: LZ4 saves nothing, Zstandard 4 to 8 %.
  options.blob_compression_type = rocksdb::kNoCompression;
  // Compaction never reads a blob: a damaged one would stop all writing. Rewriting is the store's
  // (reclaim.h), after it has looked at every record.
  options.enable_blob_garbage_collection = false;
  return options;
}

}  // namespace

Database::Handle::~Handle() {
  if (rows != nullptr) db->DestroyColumnFamilyHandle(rows);
  if (records != nullptr) db->DestroyColumnFamilyHandle(records);
  db->Close().PermitUncheckedError();  // what was promised is in the log already
}

Database::Database(std::unique_ptr<StoreDirectory> directory, int64_t cache_bytes,
                   std::function<absl::Status(Handle&)> on_open)
    : directory_(std::move(directory)), cache_bytes_(cache_bytes), on_open_(std::move(on_open)) {}

Database::~Database() {
  Use last;
  {
    MutexLock lock(mutex_);
    last = std::move(current_);
  }
}

absl::Status Database::Start() {
  DS_ASSIGN_OR_RETURN(Use use, OpenHandle());
  MutexLock lock(mutex_);
  current_ = std::move(use);
  return absl::OkStatus();
}

absl::StatusOr<Database::Use> Database::OpenHandle() {
  const std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(static_cast<size_t>(cache_bytes_));
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, MakeRowOptions(cache)},
      {kRecordsFamily, MakeRecordOptions(cache)}};
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(
      MakeDatabaseOptions(), directory_->database_path(), families, &handles, &db);
  if (!status.ok()) return Explain(status);
  auto handle = std::make_unique<Handle>(std::unique_ptr<rocksdb::DB>(db));
  handle->rows = handles[0];
  handle->records = handles[1];
  DS_RETURN_IF_ERROR(on_open_(*handle));
  MutexLock lock(mutex_);
  ++handles_;
  return Use(handle.release(), [this](Handle* closing) {
    delete closing;
    MutexLock closing_lock(mutex_);
    --handles_;
    changed_.NotifyAll();
  });
}

bool Database::MayReopen() const {
  if (std::chrono::steady_clock::now() - last_opening_ < kReopenInterval) return false;
  // Opening writes what the log holds to files.
  if (current_ == nullptr) return true;
  return directory_->CheckInPlace().ok() && directory_->FreeBytes() >= kReservedBytes + LogBytes();
}

absl::StatusOr<Database::Use> Database::Acquire(bool writing) {
  Use failed;
  {
    MutexLock lock(mutex_);
    while (reopening_) changed_.Wait(mutex_);
    if (current_ != nullptr && (!writing || failure_.ok())) return current_;
    if (!MayReopen()) return failure_;
    reopening_ = true;
    last_opening_ = std::chrono::steady_clock::now();
    failed = std::move(current_);
    current_ = nullptr;
  }
  if (failed != nullptr) failed->closing = true;
  failed.reset();
  {
    MutexLock lock(mutex_);
    while (handles_ > 0) changed_.Wait(mutex_);
  }
  absl::StatusOr<Use> opened = OpenHandle();
  MutexLock lock(mutex_);
  reopening_ = false;
  changed_.NotifyAll();
  failure_ = opened.status();
  if (opened.ok()) current_ = *opened;
  return opened;
}

absl::Status Database::CheckRoom(Handle& handle, int64_t bytes) const {
  DS_RETURN_IF_ERROR(directory_->CheckInPlace());
  uint64_t unwritten = 0;
  handle.db->GetIntProperty(handle.records, rocksdb::DB::Properties::kCurSizeAllMemTables,
                            &unwritten);
  const int64_t needed = 2 * bytes + static_cast<int64_t>(unwritten) + kReservedBytes;
  const int64_t free = directory_->FreeBytes();
  if (free >= needed) return absl::OkStatus();
  return QuotaError("disk space",
                    StrCat("state store ", path(), ": needs ", needed, " free bytes to store ",
                           bytes, " more, found ", free),
                    std::nullopt);
}

absl::Status Database::Write(Handle& handle, rocksdb::WriteBatch* batch, bool sync) {
  rocksdb::WriteOptions options;
  options.sync = sync;
  // RocksDB lets one thread write the batches of others. It is not built with the thread sanitizer,
  // which therefore does not see how they hand them over, and is not to judge it.
  ABSL_ANNOTATE_IGNORE_READS_AND_WRITES_BEGIN();
  const rocksdb::Status written = handle.db->Write(options, batch);
  ABSL_ANNOTATE_IGNORE_READS_AND_WRITES_END();
  absl::Status status = Explain(written);
  if (status.ok()) return directory_->CheckInPlace();
  // What is wrong with the batch alone stops nobody else.
  if (written.IsInvalidArgument() || written.IsNotSupported()) return status;
  MutexLock lock(mutex_);
  // Of several failures the first tells the cause; after it RocksDB only says that it has failed.
  if (current_.get() == &handle && failure_.ok()) failure_ = status;
  return failure_.ok() ? status : failure_;
}

StoreMemory Database::Memory() {
  Use use;
  {
    MutexLock lock(mutex_);
    use = current_;
  }
  StoreMemory memory;
  if (use == nullptr) return memory;
  using Properties = rocksdb::DB::Properties;
  const auto read = [&](rocksdb::ColumnFamilyHandle* family, const std::string& property) {
    uint64_t bytes = 0;
    use->db->GetIntProperty(family, property, &bytes);
    return static_cast<int64_t>(bytes);
  };
  for (rocksdb::ColumnFamilyHandle* family : {use->rows, use->records}) {
    memory.write_buffers += read(family, Properties::kSizeAllMemTables);
    memory.tables += read(family, Properties::kEstimateTableReadersMem);
  }
  memory.cache = read(use->rows, Properties::kBlockCacheUsage);  // both families share it
  return memory;
}

absl::Status Database::Explain(const rocksdb::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  const std::string reason = status.ToString();
  const std::string message = StrCat("state store ", path(), ": ", reason);
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kSpaceLimit ||
      reason.find("No space left") != std::string::npos ||
      reason.find("Disk quota exceeded") != std::string::npos) {
    return QuotaError("disk space", message, std::nullopt);
  }
  if (status.IsCorruption()) return absl::DataLossError(message);
  if (status.IsInvalidArgument() || status.IsNotSupported()) {
    return absl::InvalidArgumentError(message);
  }
  if (reason.find("lock file") != std::string::npos) return absl::FailedPreconditionError(message);
  return UnavailableError(message, kRetryDelay);
}

int64_t Database::LogBytes() const {
  int64_t bytes = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory_->database_path(), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() != ".log") continue;
    std::error_code vanished;
    const auto size = entry->file_size(vanished);
    if (!vanished) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace dreamstate::state
