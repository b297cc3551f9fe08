#include "kernels/runtime/thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace dreamstate::kernels {
namespace {

// Longer than the gap between two regions of a decode step, shorter than anybody would notice as
// load.
constexpr std::chrono::microseconds kSpin{80};
constexpr int kPausesPerClockRead = 16;

inline void Pause() { __builtin_ia32_pause(); }

// The state of the pool in one word, so that joining a region and its being open are one atomic
// step:
//   bits 0..30 workers inside the region, bit 31 open, bits 32..63 number of the region.
constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr int kRegionShift = 32;
// A region number that is never opened: it tells workers to leave.
constexpr uint64_t kStop = ~uint64_t{0};

}  // namespace

// A region: the caller writes the job, opens, works, closes when nothing is left to claim, and
// waits for the workers that are inside. A worker that wakes too late finds it closed and has
// touched nothing, so nobody waits for a thread that was never scheduled.
struct ThreadPool::Impl {
  explicit Impl(int wanted) {
    workers.reserve(wanted - 1);
    try {
      for (int i = 1; i < wanted; ++i) workers.emplace_back([this, i] { Work(i); });
    } catch (const std::system_error&) {
      // The system gives no more threads: the work is done with those there are.
    }
    threads = static_cast<int>(workers.size()) + 1;
  }

  Impl(int wanted, Fork other) : threads(wanted), fork(other) {}

  ~Impl() {
    state.store(kStop);
    {
      const std::lock_guard<std::mutex> lock(mutex);
      wake.notify_all();
    }
    for (std::thread& worker : workers) worker.join();
  }

  bool IsNews(uint64_t now, uint64_t last_region) const {
    return now == kStop || ((now & kOpen) != 0 && (now >> kRegionShift) != last_region);
  }

  // Returns the state once it shows a region after `last_region`, or kStop.
  uint64_t AwaitRegion(uint64_t last_region) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < kPausesPerClockRead; ++i) {
        const uint64_t now = state.load(std::memory_order_acquire);
        if (IsNews(now, last_region)) return now;
        Pause();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    std::unique_lock<std::mutex> lock(mutex);
    // Sequentially consistent with the caller's store of the state and load of sleepers: one of the
    // two sees the other.
    sleepers.fetch_add(1);
    uint64_t now = state.load();
    while (!IsNews(now, last_region)) {
      wake.wait(lock);
      now = state.load();
    }
    sleepers.fetch_sub(1);
    return now;
  }

  void Work(int thread) {
    uint64_t last_region = 0;
    for (;;) {
      uint64_t now = AwaitRegion(last_region);
      if (now == kStop) return;
      const uint64_t seen = now >> kRegionShift;
      bool joined = false;
      while ((now & kOpen) != 0 && now != kStop && (now >> kRegionShift) == seen && !joined) {
        joined = state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel,
                                             std::memory_order_acquire);
      }
      last_region = seen;
      if (!joined) continue;
      ClaimPieces(thread);
      state.fetch_sub(1, std::memory_order_release);
    }
  }

  // Pieces shrink as work runs out: long runs for streaming at first, small ones to end together.
  void ClaimPieces(int thread) {
    int64_t begin = next.load(std::memory_order_relaxed);
    for (;;) {
      int64_t end;
      do {
        const int64_t left = count - begin;
        if (left <= 0) return;
        int64_t piece = left / (2 * threads);
        if (piece < grain) piece = grain;
        end = left - piece < grain ? count : begin + piece;
      } while (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed));
      function(context, begin, end, thread);
      begin = next.load(std::memory_order_relaxed);
    }
  }

  void Run() {
    next.store(0, std::memory_order_relaxed);
    if (fork != nullptr) {
      fork(
          threads, [](void* impl, int thread) { static_cast<Impl*>(impl)->ClaimPieces(thread); },
          this);
      return;
    }
    region = (region + 1) & 0x7fffffffu;
    if (region == 0) region = 1;
    state.store(region << kRegionShift | kOpen);
    if (sleepers.load() > 0) {
      const std::lock_guard<std::mutex> lock(mutex);
      wake.notify_all();
    }
    ClaimPieces(0);
    uint64_t now = state.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    // Yields now and then: a worker that lost its processor inside a piece may need this one.
    for (int spins = 1; (now & kInside) != 0; ++spins) {
      if (spins % 1024 == 0) {
        std::this_thread::yield();
      } else {
        Pause();
      }
      now = state.load(std::memory_order_acquire);
    }
  }

  // Read by workers only inside a region.
  int threads = 1;
  Fork fork = nullptr;
  std::vector<std::thread> workers;

  // The job; written only while the region is closed and nobody is inside.
  Function function = nullptr;
  void* context = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
  uint64_t region = 0;

  alignas(64) std::atomic<uint64_t> state{0};
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> sleepers{0};
  std::mutex mutex;
  std::condition_variable wake;
};

ThreadPool::ThreadPool(int threads) : impl_(new Impl(threads < 1 ? 1 : threads)) {}
ThreadPool::ThreadPool(int threads, Fork fork) : impl_(new Impl(threads < 1 ? 1 : threads, fork)) {}
ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const { return impl_->threads; }

void ThreadPool::Run(int64_t count, int64_t grain, Function function, void* context) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  if (impl_->threads == 1 || count <= grain) {
    function(context, 0, count, 0);
    return;
  }
  impl_->function = function;
  impl_->context = context;
  impl_->count = count;
  impl_->grain = grain;
  impl_->Run();
}

}  // namespace dreamstate::kernels
