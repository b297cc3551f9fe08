// The directory that a store lives in:
//   dreamstate-store.json   what the directory is, and the version of its contents (schema)
//   dreamstate-store.lock   locked by the process that has it open; says which
//   db/                     RocksDB
// Refuses a directory of anybody else rather than write into it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dreamstate::state {

// The version of keys and values that this program writes.
inline constexpr int kStoreSchema = 1;

class StoreDirectory {
 public:
  // Makes the directory when it is missing (its parent must exist) and takes its lock, which is
  // held until this object goes or the process ends, however it ends. FAILED_PRECONDITION: not a
  // directory, another program's files, a newer schema, held by another process (naming it).
  // UNAVAILABLE: no permission, read-only, failing disk. RESOURCE_EXHAUSTED: full.
  static absl::StatusOr<std::unique_ptr<StoreDirectory>> Claim(const std::string& path);
  ~StoreDirectory();
  StoreDirectory(const StoreDirectory&) = delete;
  StoreDirectory& operator=(const StoreDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string database_path() const { return path_ + "/db"; }

  // For an open database. UNAVAILABLE when the path no longer leads to the directory that was
  // claimed, the database is gone (files that are still open would take writes that nobody can find
  // again), or the file system has become read-only.
  absl::Status CheckInPlace() const;
  // Bytes that can still be written on its file system; 0 when that does not say.
  int64_t FreeBytes() const;

 private:
  StoreDirectory(std::string path, int lock_fd);
  std::string path_;
  int lock_fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace dreamstate::state
