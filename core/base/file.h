// Files: mapped reading and writing that is seen whole or not at all. Errors name the path and the
// system's reason.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/mapping_guard.h"

namespace dreamstate {

// A regular file mapped read-only; the mapping lives as long as this object. Thread-safe.
// What a file loses while it is mapped reads as zeros (mapping_guard.h), and what is written into
// it is seen: files of the repository are immutable by contract, and whoever must be sure compares
// a hash after the last read, or asks whether anything was lost.
class MappedFile {
 public:
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }
  // Whether something was read that the file no longer had.
  bool lost() const { return guard_->lost(); }

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes);
  std::string path_;
  std::span<const std::byte> bytes_;
  std::optional<const MappingGuard> guard_;
};

// The whole file as a string; refuses more than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// Writes `pieces` one after another to a temporary name beside `path`, fsyncs, renames over `path`,
// fsyncs the directory. On an error the temporary file is removed and `path` is as it was; only
// when the directory's fsync fails is the new file there, though a power cut may take it back.
absl::Status WriteFileAtomically(const std::string& path,
                                 std::span<const std::span<const std::byte>> pieces);
absl::Status WriteFileAtomically(const std::string& path, std::string_view contents);

// Whether `name` is one that WriteFileAtomically gives to a file that is not whole yet; a crash may
// leave one behind.
bool IsTemporaryName(std::string_view name);

// Names in a directory, sorted, without "." and "..".
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

// Makes `path` and the directories above it that are missing, so that they survive a crash.
// FAILED_PRECONDITION when something else has one of the names.
absl::Status MakeDirectories(const std::string& path);

// fsync of a directory, so that names made in it survive a crash.
absl::Status SyncDirectory(const std::string& path);

}  // namespace dreamstate
