// RocksDB in a StoreDirectory, opened with the store's options; opened again when it has stopped
// writing.
//
// RocksDB refuses every write after one failed, and DB::Resume does not help when the failed write
// was to the log and nothing is in memory (7.8 keeps the log file that failed). So after a failure
// reading goes on, and the first write that finds room on the disk closes the database and opens it
// again, which keeps exactly what the log holds.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/state/rocksdb/directory.h"
#include "core/state/store.h"
#include "rocksdb/db.h"

namespace dreamstate::state {

// Thread-safe.
class Database {
 public:
  // One opening of the database.
  struct Handle {
    explicit Handle(std::unique_ptr<rocksdb::DB> opened) : db(std::move(opened)) {}
    ~Handle();
    std::unique_ptr<rocksdb::DB> db;
    rocksdb::ColumnFamilyHandle* rows = nullptr;     // rows and indexes
    rocksdb::ColumnFamilyHandle* records = nullptr;  // blobs
    std::atomic<bool> closing{false};                // long work should end
  };
  // Keeps an opening alive. An operation takes one before any lock, and only one: a reopening waits
  // for all of them.
  using Use = std::shared_ptr<Handle>;

  // `on_open` runs after every opening, before anybody else sees it. Start comes before everything
  // else.
  Database(std::unique_ptr<StoreDirectory> directory, int64_t cache_bytes,
           std::function<absl::Status(Handle&)> on_open);
  ~Database();
  absl::Status Start();

  absl::StatusOr<Use> ForReading() { return Acquire(/*writing=*/false); }
  absl::StatusOr<Use> ForWriting() { return Acquire(/*writing=*/true); }

  // RESOURCE_EXHAUSTED when `bytes` more, with what still has to move from the log to files, would
  // fill the disk. Asked before records are added, so that RocksDB hardly ever meets a full disk
  // and there is room left to delete.
  absl::Status CheckRoom(Handle& handle, int64_t bytes) const;

  // Applies the batch whole or not at all; with `sync` an OK survives a crash of the machine,
  // without it a crash of the process.
  absl::Status Write(Handle& handle, rocksdb::WriteBatch* batch, bool sync);

  // Zeros while it is closed.
  StoreMemory Memory();

  // What a RocksDB error means to a caller; every message names the path.
  absl::Status Explain(const rocksdb::Status& status) const;
  const std::string& path() const { return directory_->path(); }
  const StoreDirectory& directory() const { return *directory_; }

 private:
  absl::StatusOr<Use> Acquire(bool writing);
  absl::StatusOr<Use> OpenHandle();
  int64_t LogBytes() const;
  bool MayReopen() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::unique_ptr<StoreDirectory> directory_;
  const int64_t cache_bytes_;
  const std::function<absl::Status(Handle&)> on_open_;
  Mutex mutex_;
  ConditionVariable changed_;
  Use current_ ABSL_GUARDED_BY(mutex_);
  int handles_ ABSL_GUARDED_BY(mutex_) = 0;  // not yet closed
  bool reopening_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  // why writing stopped
  std::chrono::steady_clock::time_point last_opening_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::state
