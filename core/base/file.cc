#include "core/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate {
namespace {

constexpr std::string_view kTemporaryMark = ".tmp-";

absl::Status Failed(std::string_view action, const std::string& path) {
  return absl::ErrnoToStatus(errno, StrCat("cannot ", action, " ", path));
}

// Closes what it holds; Release takes it out.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// Opens a regular file for reading. O_NONBLOCK: opening a pipe without a writer would wait for
// ever.
absl::StatusOr<Descriptor> OpenRegular(const std::string& path, int64_t* size) {
  Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return Failed("open", path);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return Failed("read", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        StrCat(path, ": expected a regular file, found ",
               S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket"));
  }
  *size = info.st_size;
  return fd;
}

std::string DirectoryOf(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteAll(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    // The kernel writes at most 2 GiB at once; a disk that fills writes less and then fails.
    const ssize_t written = write(fd, bytes.data(), std::min<size_t>(bytes.size(), 1 << 30));
    if (written < 0) {
      if (errno == EINTR) continue;
      return Failed("write", path);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status WriteSyncClose(Descriptor fd, std::span<const std::span<const std::byte>> pieces,
                            const std::string& path) {
  for (const std::span<const std::byte> piece : pieces) {
    DS_RETURN_IF_ERROR(WriteAll(fd.get(), piece, path));
  }
  if (fsync(fd.get()) != 0) return Failed("sync", path);
  // Some file systems report a full disk only here.
  if (close(fd.Release()) != 0) return Failed("close", path);
  return absl::OkStatus();
}

}  // namespace

MappedFile::MappedFile(std::string path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes), guard_(std::in_place, bytes) {}

MappedFile::~MappedFile() {
  // First: once unmapped, the addresses may be another thread's.
  guard_.reset();
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  int64_t size = 0;
  DS_ASSIGN_OR_RETURN(const Descriptor fd, OpenRegular(path, &size));
  std::span<const std::byte> bytes;
  if (size > 0) {  // an empty mapping is an error to mmap
    void* address = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (address == MAP_FAILED) return Failed("map", path);
    bytes = {static_cast<const std::byte*>(address), static_cast<size_t>(size)};
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(path, bytes));
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  int64_t size = 0;
  DS_ASSIGN_OR_RETURN(const Descriptor fd, OpenRegular(path, &size));
  const auto too_large = [&](int64_t found) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: expected at most %d bytes, found %s%d", path, max_bytes,
        found == size ? "" : "more than ", found == size ? found : int64_t(max_bytes)));
  };
  if (static_cast<uint64_t>(size) > max_bytes) return too_large(size);
  // The size is only a hint: the file may grow, and files of /proc have none.
  std::string contents;
  contents.reserve(static_cast<size_t>(size));
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return Failed("read", path);
    }
    if (count == 0) return contents;
    if (static_cast<size_t>(count) > max_bytes - contents.size()) return too_large(-1);
    contents.append(buffer.data(), static_cast<size_t>(count));
  }
}

absl::Status WriteFileAtomically(const std::string& path,
                                 std::span<const std::span<const std::byte>> pieces) {
  const std::string temporary = absl::StrFormat("%s%s%016x", path, kTemporaryMark, EntropyBits());
  Descriptor fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (fd.get() < 0) return Failed("create", temporary);
  absl::Status status = WriteSyncClose(std::move(fd), pieces, path);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) status = Failed("write", path);
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(DirectoryOf(path));
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view contents) {
  const std::array pieces{std::as_bytes(std::span(contents))};
  return WriteFileAtomically(path, pieces);
}

bool IsTemporaryName(std::string_view name) {
  return name.find(kTemporaryMark) != std::string_view::npos;
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (directory == nullptr) return Failed("open directory", path);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(directory.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return Failed("list directory", path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status MakeDirectories(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return absl::OkStatus();
    return absl::FailedPreconditionError(
        StrCat(path, ": expected a directory, found something else"));
  }
  if (errno != ENOENT) return Failed("open directory", path);
  const std::string parent = DirectoryOf(path);
  if (parent != path) DS_RETURN_IF_ERROR(MakeDirectories(parent));
  // Another process may be quicker.
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return Failed("make directory", path);
  return SyncDirectory(parent);
}

absl::Status SyncDirectory(const std::string& path) {
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return Failed("open directory", path);
  // EINVAL: a file system that has no such promise to give.
  if (fsync(fd.get()) != 0 && errno != EINVAL) return Failed("sync directory", path);
  return absl::OkStatus();
}

}  // namespace dreamstate
