#include "core/state/rocksdb/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/record_json.h"

namespace dreamstate::state {
namespace {

constexpr std::string_view kOwnFiles = "dreamstate-store.";
constexpr char kMarkerName[] = "/dreamstate-store.json";
constexpr char kLockName[] = "/dreamstate-store.lock";
constexpr char kKind[] = "dreamstate state store";
constexpr absl::Duration kRetryDelay = absl::Seconds(5);

absl::Status FromErrno(int error, std::string_view action, const std::string& path) {
  const absl::Status status =
      absl::ErrnoToStatus(error, StrCat("state store ", path, ": cannot ", action));
  if (error == ENOSPC || error == EDQUOT) {
    return QuotaError("disk space", StdView(status.message()), std::nullopt);
  }
  if (error == ENOENT || error == ENOTDIR) {
    return absl::FailedPreconditionError(status.message());
  }
  return UnavailableError(StdView(status.message()), kRetryDelay);
}

absl::StatusOr<std::vector<std::string>> Entries(const std::string& path) {
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) return FromErrno(errno, "list the directory", path);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  const int error = errno;
  closedir(directory);
  if (error != 0) return FromErrno(error, "list the directory", path);
  std::sort(names.begin(), names.end());
  return names;
}

// An empty directory may be taken; "lost+found" is what an empty file system has.
absl::Status CheckNobodyElses(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> names, Entries(path));
  for (const std::string& name : names) {
    if (name == "lost+found" || name.compare(0, kOwnFiles.size(), kOwnFiles) == 0) continue;
    return absl::FailedPreconditionError(
        StrCat("state store ", path, ": holds other files (", name,
               ") and is no state store; give an empty or new directory"));
  }
  return absl::OkStatus();
}

absl::Status CheckMarker(const std::string& path) {
  constexpr size_t kMaxMarkerBytes = 4096;
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path + kMarkerName, kMaxMarkerBytes));
  const absl::StatusOr<nlohmann::json> json = JsonFromText(text);
  if (json.ok()) {
    JsonReader reader(*json);
    const std::string kind = reader.Text("kind");
    const int64_t schema = reader.Integer("schema", 1, std::numeric_limits<int64_t>::max());
    if (reader.status().ok() && kind == kKind) {
      if (schema <= kStoreSchema) return absl::OkStatus();
      return absl::FailedPreconditionError(StrCat("state store ", path, ": has schema ", schema,
                                                  ", newer than this program's ", kStoreSchema,
                                                  "; use a newer program or another directory"));
    }
  }
  return absl::FailedPreconditionError(
      StrCat("state store ", path, kMarkerName, ": does not describe a state store"));
}

absl::Status WriteMarker(const std::string& path) {
  const nlohmann::json marker = {{"kind", kKind}, {"schema", kStoreSchema}};
  const absl::Status status = WriteFileAtomically(path + kMarkerName, marker.dump() + "\n");
  if (status.ok()) return status;
  const std::string message = StrCat("state store ", path, ": ", StdView(status.message()));
  if (absl::IsResourceExhausted(status)) return QuotaError("disk space", message, std::nullopt);
  return UnavailableError(message, kRetryDelay);
}

std::string HolderOf(int lock_fd) {
  char text[512];
  const ssize_t size = pread(lock_fd, text, sizeof(text), 0);
  if (size <= 0) return "another process";
  return std::string(absl::StripAsciiWhitespace({text, static_cast<size_t>(size)}));
}

absl::Status WriteHolder(int lock_fd, const std::string& path) {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  const std::string text =
      StrCat("process ", getpid(), " on ", host, " since ", TimeText(absl::Now()), "\n");
  if (ftruncate(lock_fd, 0) != 0) return FromErrno(errno, "write the lock", path);
  const ssize_t written = pwrite(lock_fd, text.data(), text.size(), 0);
  if (written == static_cast<ssize_t>(text.size())) return absl::OkStatus();
  return FromErrno(written < 0 ? errno : ENOSPC, "write the lock", path);
}

}  // namespace

StoreDirectory::StoreDirectory(std::string path, int lock_fd)
    : path_(std::move(path)), lock_fd_(lock_fd) {}

// The name of the holder stays behind; only the lock counts.
StoreDirectory::~StoreDirectory() { close(lock_fd_); }

absl::StatusOr<std::unique_ptr<StoreDirectory>> StoreDirectory::Claim(const std::string& path) {
  if (mkdir(path.c_str(), 0750) != 0 && errno != EEXIST) {
    if (errno == ENOENT) {
      return absl::FailedPreconditionError(
          StrCat("state store ", path, ": the directory that it should be in does not exist"));
    }
    return FromErrno(errno, "make the directory", path);
  }
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FromErrno(errno, "read", path);
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        StrCat("state store ", path, ": expected a directory, found a file"));
  }
  const auto has_marker = [&path] {
    struct stat marker;
    return stat((path + kMarkerName).c_str(), &marker) == 0;
  };
  if (!has_marker()) DS_RETURN_IF_ERROR(CheckNobodyElses(path));

  const int fd = open((path + kLockName).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (fd < 0) return FromErrno(errno, "write", path);
  std::unique_ptr<StoreDirectory> directory(new StoreDirectory(path, fd));
  directory->device_ = info.st_dev;
  directory->inode_ = info.st_ino;
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FromErrno(errno, "lock", path);
    return absl::FailedPreconditionError(
        StrCat("state store ", path, ": already open: held by ", HolderOf(fd)));
  }
  // Looked at again under the lock: somebody may just have made it.
  if (has_marker()) {
    DS_RETURN_IF_ERROR(CheckMarker(path));
  } else {
    DS_RETURN_IF_ERROR(CheckNobodyElses(path));
    DS_RETURN_IF_ERROR(WriteMarker(path));
  }
  DS_RETURN_IF_ERROR(WriteHolder(fd, path));
  return directory;
}

absl::Status StoreDirectory::CheckInPlace() const {
  struct stat info;
  struct stat lock;
  if (stat(path_.c_str(), &info) != 0 || info.st_dev != device_ || info.st_ino != inode_ ||
      fstat(lock_fd_, &lock) != 0 || lock.st_nlink == 0 ||
      stat((database_path() + "/CURRENT").c_str(), &info) != 0) {
    return UnavailableError(StrCat("state store ", path_,
                                   ": the directory or its files were removed while it was open"),
                            kRetryDelay);
  }
  struct statvfs system;
  if (statvfs(path_.c_str(), &system) == 0 && (system.f_flag & ST_RDONLY) != 0) {
    return UnavailableError(StrCat("state store ", path_, ": its file system is read-only"),
                            kRetryDelay);
  }
  return absl::OkStatus();
}

int64_t StoreDirectory::FreeBytes() const {
  struct statvfs info;
  if (statvfs(path_.c_str(), &info) != 0) return 0;
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

}  // namespace dreamstate::state
