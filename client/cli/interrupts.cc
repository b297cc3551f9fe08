#include "client/cli/interrupts.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "client/cli/exit_codes.h"

namespace dreamstate::cli {
namespace {

// Waits until one of two descriptors can be read; true when the first can. A negative descriptor
// never can.
bool FirstReadable(int first, int second) {
  pollfd fds[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
  for (;;) {
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return true;  // then reading says what is wrong
    }
    return fds[1].revents == 0;
  }
}

void Post(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof(one));
}

}  // namespace

Interrupts::Interrupts() : cancellation_(std::make_shared<client::Cancellation>()) {
  struct sigaction action {};
  if (sigaction(SIGINT, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) return;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC);
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  interrupted_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listener_ = std::thread([this] { Listen(); });
}

Interrupts::~Interrupts() {
  if (!listener_.joinable()) return;
  Post(stop_fd_);
  listener_.join();
  close(signal_fd_);
  close(stop_fd_);
  close(interrupted_fd_);
}

std::shared_ptr<client::Cancellation> Interrupts::cancellation() {
  const std::lock_guard lock(mutex_);
  return cancellation_;
}

void Interrupts::Reset() {
  const std::lock_guard lock(mutex_);
  if (!cancellation_->cancelled()) return;
  cancellation_ = std::make_shared<client::Cancellation>();
  uint64_t count;
  [[maybe_unused]] const ssize_t got = read(interrupted_fd_, &count, sizeof(count));
}

bool Interrupts::WaitReadable(int fd) { return FirstReadable(fd, interrupted_fd_); }

void Interrupts::Listen() {
  while (FirstReadable(signal_fd_, stop_fd_)) {
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) return;
    std::shared_ptr<client::Cancellation> current = cancellation();
    if (current->cancelled()) _exit(kExitInterrupted);
    current->Cancel();
    Post(interrupted_fd_);
  }
}

}  // namespace dreamstate::cli
