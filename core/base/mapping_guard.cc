#include "core/base/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

namespace dreamstate {
namespace {

constexpr uintptr_t kFree = 0, kTaken = 1;  // as an end: no address lies before it

// Read by a signal handler, so: no locks.
struct Range {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{kFree};
  std::atomic<bool> lost{false};
};
std::array<Range, kMostGuardedMappings> ranges;
uintptr_t page_bytes = 4096;
struct sigaction action_before;

// Null when no guarded mapping holds it.
Range* Find(uintptr_t address) {
  for (Range& range : ranges) {
    const uintptr_t end = range.end.load(std::memory_order_acquire);
    if (address < end && address >= range.begin.load(std::memory_order_relaxed)) return &range;
  }
  return nullptr;
}

bool Mend(uintptr_t address) {
  Range* range = Find(address);
  if (range == nullptr) return false;
  // Before anybody can read a zero.
  range->lost.store(true, std::memory_order_release);
  void* page = reinterpret_cast<void*>(address - address % page_bytes);
  return mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
         MAP_FAILED;
}

// What was there before deals with a signal that is not ours. A handler may return, so this one
// stays in place.
void PassOn(int signal, siginfo_t* info, void* context) {
  const bool sent = info->si_code <= 0;  // by kill, raise, …
  if ((action_before.sa_flags & SA_SIGINFO) != 0) {
    action_before.sa_sigaction(signal, info, context);
  } else if (action_before.sa_handler == SIG_IGN && sent) {
    return;
  } else if (action_before.sa_handler != SIG_DFL && action_before.sa_handler != SIG_IGN) {
    action_before.sa_handler(signal);
  } else {
    // Ends the program: a fault happens again on return, what was sent is sent again.
    sigaction(signal, &action_before, nullptr);
    if (sent) raise(signal);
  }
}

void OnFault(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (info->si_code != BUS_ADRERR || !Mend(reinterpret_cast<uintptr_t>(info->si_addr))) {
    PassOn(signal, info, context);
  }
  errno = error;
}

void Install() {
  page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action = {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &action_before);
}

}  // namespace

MappingGuard::MappingGuard(std::span<const std::byte> bytes) {
  static std::once_flag once;
  std::call_once(once, Install);
  if (bytes.empty()) return;
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  for (size_t i = 0; i < ranges.size(); ++i) {
    uintptr_t free = kFree;
    if (!ranges[i].end.compare_exchange_strong(free, kTaken)) continue;
    ranges[i].begin.store(begin, std::memory_order_relaxed);
    ranges[i].lost.store(false, std::memory_order_relaxed);
    // The last page is mapped whole.
    const uintptr_t end = begin + bytes.size();
    ranges[i].end.store((end + page_bytes - 1) / page_bytes * page_bytes,
                        std::memory_order_release);
    place_ = static_cast<int>(i);
    return;
  }
}

MappingGuard::~MappingGuard() {
  if (place_ >= 0) ranges[static_cast<size_t>(place_)].end.store(kFree, std::memory_order_release);
}

bool MappingGuard::lost() const {
  return place_ >= 0 && ranges[static_cast<size_t>(place_)].lost.load(std::memory_order_acquire);
}

bool LostPages(std::span<const std::byte> bytes) {
  const Range* range = Find(reinterpret_cast<uintptr_t>(bytes.data()));
  return range != nullptr && range->lost.load(std::memory_order_acquire);
}

}  // namespace dreamstate
