// The program's own definitions come before the C library's.
#include "tests/core/repository/system_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dreamstate::testing {
namespace {

struct State {
  bool active = false;
  std::string root;
  Fault fault = Fault::kNone;
  int n = 0;
  int error = 0;
  std::vector<std::string> calls;
  std::string before;  // the call that `action` waits for
  std::function<void()> action;
};
State state;

// What a descriptor was opened as; empty outside the root.
std::string PathOf(int fd) {
  std::array<char, 4096> path;
  const std::string link = absl::StrCat("/proc/self/fd/", fd);
  const ssize_t size = readlink(link.c_str(), path.data(), path.size());
  return size < 0 ? "" : std::string(path.data(), static_cast<size_t>(size));
}

void RunActionBefore(const std::string& call) {
  if (state.action == nullptr || call != state.before) return;
  const std::function<void()> action = std::exchange(state.action, nullptr);
  state.active = false;
  action();
  state.active = true;
}

// A call below the root by the names there.
std::string Inside(const std::string& path) {
  return path.size() > state.root.size() ? path.substr(state.root.size() + 1) : std::string(".");
}

bool IsBelowRoot(const std::string& path) {
  return state.active && path.compare(0, state.root.size(), state.root) == 0;
}

void PassRead(const std::string& path) {
  if (IsBelowRoot(path)) RunActionBefore(absl::StrCat("read ", Inside(path)));
}

// False when the call is to fail, with errno set.
bool Pass(const char* call, const std::string& path, const std::string& other = "") {
  if (!IsBelowRoot(path)) return true;
  state.calls.push_back(absl::StrCat(call, " ", Inside(path), other.empty() ? "" : " ",
                                     other.empty() ? "" : Inside(other)));
  RunActionBefore(std::string(state.calls.back()));
  const int count = static_cast<int>(state.calls.size());
  const bool hit = state.fault == Fault::kFailFrom ? count >= state.n : count == state.n;
  if (state.fault == Fault::kNone || !hit) return true;
  if (state.fault == Fault::kDie) _exit(kDied);
  errno = state.error;
  return false;
}

}  // namespace

void StartFault(const std::string& root, Fault fault, int n, int error) {
  state = {true, root, fault, n, error, {}, "", nullptr};
}

void RunBefore(const std::string& call, std::function<void()> action) {
  state.before = call;
  state.action = std::move(action);
}

std::vector<std::string> StopFault() {
  state.active = false;
  state.action = nullptr;
  return state.calls;
}

}  // namespace dreamstate::testing

using dreamstate::testing::Pass;
using dreamstate::testing::PassRead;
using dreamstate::testing::PathOf;

extern "C" {

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (writes && !Pass("open", path)) return -1;
  if (!writes) PassRead(path);
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

ssize_t write(int fd, const void* data, size_t size) {
  if (dreamstate::testing::state.active && !Pass("write", PathOf(fd))) return -1;
  return syscall(SYS_write, fd, data, size);
}

int fsync(int fd) {
  if (dreamstate::testing::state.active && !Pass("fsync", PathOf(fd))) return -1;
  return static_cast<int>(syscall(SYS_fsync, fd));
}

int rename(const char* from, const char* to) noexcept {
  if (!Pass("rename", from, to)) return -1;
  return static_cast<int>(syscall(SYS_rename, from, to));
}

int link(const char* from, const char* to) noexcept {
  if (!Pass("link", from, to)) return -1;
  return static_cast<int>(syscall(SYS_link, from, to));
}

int unlink(const char* path) noexcept {
  if (!Pass("unlink", path)) return -1;
  return static_cast<int>(syscall(SYS_unlink, path));
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (!Pass("mkdir", path)) return -1;
  return static_cast<int>(syscall(SYS_mkdir, path, mode));
}

int utimensat(int directory, const char* path, const struct timespec times[2], int flags) noexcept {
  if (!Pass("utimensat", path)) return -1;
  return static_cast<int>(syscall(SYS_utimensat, directory, path, times, flags));
}

}  // extern "C"
