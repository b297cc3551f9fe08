#include "client/cli/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/cli/exit_codes.h"

namespace dreamstate::cli {
namespace {

// What the person named wrongly.
absl::Status Wrong(const std::string& name, int error) {
  return UsageError(absl::StrCat(name, ": ", std::strerror(error)));
}
// What went wrong with a file that was named rightly.
absl::Status Failed(const std::string& name, int error) {
  return absl::UnknownError(absl::StrCat(name, ": ", std::strerror(error)));
}

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed(name, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

// Standard input as a file without a name; the caller closes it.
absl::StatusOr<int> Spool(Interrupts& interrupts) {
  constexpr char kName[] = "standard input";
  std::FILE* const file = std::tmpfile();
  if (file == nullptr) return Failed("a temporary file", errno);
  const absl::Cleanup closer = [file] { std::fclose(file); };
  char buffer[1 << 16];
  for (;;) {
    if (!interrupts.WaitReadable(STDIN_FILENO)) return absl::CancelledError("");
    const ssize_t got = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Wrong(kName, errno);
    if (got == 0) break;
    const absl::Status written =
        WriteAll(fileno(file), {buffer, static_cast<size_t>(got)}, "a temporary file");
    if (!written.ok()) return written;
  }
  const int fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return Failed(kName, errno);
  return fd;
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

InputFile::InputFile(std::string name, int fd, int64_t size)
    : name_(std::move(name)), fd_(fd), size_(size) {}
InputFile::~InputFile() { close(fd_); }

absl::StatusOr<std::unique_ptr<InputFile>> InputFile::Open(const std::string& path,
                                                           Interrupts& interrupts) {
  const std::string name = path == "-" ? "standard input" : path;
  int fd;
  if (path == "-") {
    absl::StatusOr<int> spooled = Spool(interrupts);
    if (!spooled.ok()) return spooled.status();
    fd = *spooled;
  } else {
    // Not blocking, so that a pipe nobody writes to does not hold us up before it is refused.
    fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return Wrong(name, errno);
  }
  absl::Cleanup closer = [fd] { close(fd); };
  struct stat info {};
  if (fstat(fd, &info) != 0) return Wrong(name, errno);
  if (!S_ISREG(info.st_mode)) {
    return UsageError(absl::StrCat(name, ": is not a regular file; - reads standard input"));
  }
  if (info.st_size == 0) return UsageError(absl::StrCat(name, ": is empty"));
  std::move(closer).Cancel();
  return std::unique_ptr<InputFile>(new InputFile(name, fd, info.st_size));
}

absl::StatusOr<std::string> InputFile::ReadAt(int64_t offset, size_t most) const {
  std::string bytes(
      std::min<size_t>(most, static_cast<size_t>(std::max<int64_t>(size_ - offset, 0))), '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got =
        pread(fd_, bytes.data() + have, bytes.size() - have, offset + static_cast<int64_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed(name_, errno);
    if (got == 0)
      return absl::UnknownError(absl::StrCat(name_, ": became shorter while it was read"));
    have += static_cast<size_t>(got);
  }
  return bytes;
}

absl::Status CheckWritable(const std::string& path, bool replace) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return Wrong(path, errno);
    // A new file needs a folder that takes it.
    return access(DirectoryOf(path).c_str(), W_OK | X_OK) == 0 ? absl::OkStatus()
                                                               : Wrong(path, errno);
  }
  if (S_ISDIR(info.st_mode)) return UsageError(absl::StrCat(path, ": is a directory"));
  if (!S_ISREG(info.st_mode)) return UsageError(absl::StrCat(path, ": is not a regular file"));
  if (!replace) return UsageError(absl::StrCat(path, ": exists already; --force replaces it"));
  return absl::OkStatus();
}

OutputFile::OutputFile(std::string path, std::string temporary, bool replace, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), replace_(replace), fd_(fd) {}

OutputFile::~OutputFile() {
  close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path,
                                                               bool replace) {
  if (absl::Status status = CheckWritable(path, replace); !status.ok()) return status;
  std::string temporary = absl::StrCat(path, ".partial-XXXXXX");
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return Wrong(path, errno);
  // As open() would make it; mkostemp's are for their owner alone.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, 0666 & ~mask);
  return std::unique_ptr<OutputFile>(new OutputFile(path, std::move(temporary), replace, fd));
}

absl::Status OutputFile::Append(absl::string_view bytes) { return WriteAll(fd_, bytes, path_); }

absl::Status OutputFile::Restart() {
  if (ftruncate(fd_, 0) != 0 || lseek(fd_, 0, SEEK_SET) != 0) return Failed(path_, errno);
  return absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  if (fsync(fd_) != 0) return Failed(path_, errno);
  if (replace_) {
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return Failed(path_, errno);
  } else {
    // Unlike rename, link never takes the place of a file that came meanwhile.
    if (link(temporary_.c_str(), path_.c_str()) == 0) {
      unlink(temporary_.c_str());
    } else if (errno != EPERM && errno != EOPNOTSUPP) {
      return Failed(path_, errno);
    } else if (absl::Status free = CheckWritable(path_, false); !free.ok()) {
      return free;  // a file system without links
    } else if (rename(temporary_.c_str(), path_.c_str()) != 0) {
      return Failed(path_, errno);
    }
  }
  temporary_.clear();
  const int directory = open(DirectoryOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    fsync(directory);
    close(directory);
  }
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, bool replace, absl::string_view bytes) {
  absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::Create(path, replace);
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Append(bytes); !status.ok()) return status;
  return (*file)->Commit();
}

}  // namespace dreamstate::cli
