#include "kernels/runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace dreamstate::kernels {
namespace {

TEST(ThreadPool, CallsEveryIndexOnceInPiecesOfAtLeastTheGrain) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 2, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 100}) {
        std::vector<std::atomic<int>> calls(count);
        std::atomic<bool> piece_too_small = false;
        std::atomic<bool> bad_thread = false;
        pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int thread) {
          if (end - begin < std::min(grain, count)) piece_too_small = true;
          if (thread < 0 || thread >= threads) bad_thread = true;
          for (int64_t i = begin; i < end; ++i) ++calls[i];
        });
        for (const auto& called : calls) ASSERT_EQ(called, 1);
        EXPECT_FALSE(piece_too_small);
        EXPECT_FALSE(bad_thread);
      }
    }
  }
}

TEST(ThreadPool, WorkersTakePartInOneRegion) {
  ThreadPool pool(2);
  // Neither piece ends before the other has begun, so one thread alone would wait for ever.
  std::atomic<int> inside = 0;
  pool.ParallelFor(2, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) ++inside;
    while (inside < 2) std::this_thread::yield();
  });
  EXPECT_EQ(inside, 2);
}

TEST(ThreadPool, WhatABodyWritesIsSeenAfterTheRegion) {
  ThreadPool pool(3);
  std::vector<int64_t> plain(300);
  int64_t expected = 0;
  for (int64_t region = 0; region < 20000; ++region) {
    pool.ParallelFor(30, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) plain[i * 10] += region;
    });
    expected += region;
    ASSERT_EQ(plain[(region % 30) * 10], expected);
  }
}

// Returns once every other thread of this process sleeps, as the kernel sees it.
void AwaitSleepOfOtherThreads() {
  const auto own = std::to_string(gettid());
  for (bool all_sleep = false; !all_sleep; std::this_thread::yield()) {
    all_sleep = true;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
      if (entry.path().filename() == own) continue;
      std::string stat;
      std::getline(std::ifstream(entry.path() / "stat"), stat);
      // "number (name) state ...", and a name may hold anything.
      const size_t name_end = stat.rfind(')');
      if (name_end == std::string::npos || name_end + 2 >= stat.size()) continue;
      if (stat[name_end + 2] != 'S') all_sleep = false;
    }
  }
}

TEST(ThreadPool, IdleWorkersSleepAndWakeForTheNextRegion) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    AwaitSleepOfOtherThreads();
    // No piece ends before all three have begun.
    std::atomic<int> inside = 0;
    pool.ParallelFor(3, 1, [&](int64_t, int64_t, int) {
      ++inside;
      while (inside < 3) std::this_thread::yield();
    });
    EXPECT_EQ(inside, 3);
  }
}

TEST(ThreadPool, EndsWhileWorkersSleep) {
  for (int i = 0; i < 20; ++i) {
    ThreadPool pool(3);
    AwaitSleepOfOtherThreads();
  }
}

TEST(ThreadPool, EndsWhileWorkersStartOrSpin) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(4);
    if (i % 2 == 0) pool.ParallelFor(100, 1, [](int64_t, int64_t, int) {});
  }
}

TEST(ThreadPool, FewerThanOneThreadIsOne) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.threads(), 1);
  int calls = 0;
  pool.ParallelFor(5, 1, [&](int64_t begin, int64_t end, int thread) {
    calls += static_cast<int>(end - begin);
    EXPECT_EQ(thread, 0);
  });
  EXPECT_EQ(calls, 5);
}

}  // namespace
}  // namespace dreamstate::kernels
