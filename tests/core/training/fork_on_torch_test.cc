#include "core/training/fork_on_torch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace dreamstate::training {
namespace {

TEST(ForkOnTorchTest, RunsItsThreadsSideBySide) {
  constexpr int kThreads = 2;
  const int before = at::get_num_threads();
  at::set_num_threads(kThreads);
  kernels::ThreadPool pool(kThreads, ForkOnTorch);
  // Each piece waits for the other to begin, which a loop over both would do in vain.
  std::atomic<int> begun = 0, met = 0;
  pool.ParallelFor(kThreads, 1, [&](int64_t begin, int64_t end, int) {
    begun += static_cast<int>(end - begin);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (begun < kThreads && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();
    }
    met += begun == kThreads ? static_cast<int>(end - begin) : 0;
  });
  at::set_num_threads(before);
  EXPECT_EQ(begun, kThreads);
  EXPECT_EQ(met, kThreads);
}

TEST(ForkOnTorchTest, GivesEveryPieceToAThreadOfThePool) {
  constexpr int kThreads = 3, kPieces = 100;
  const int before = at::get_num_threads();
  at::set_num_threads(kThreads);
  kernels::ThreadPool pool(kThreads, ForkOnTorch);
  std::atomic<int> seen[kPieces] = {};
  std::atomic<bool> known = true;
  pool.ParallelFor(kPieces, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) ++seen[i];
    if (thread < 0 || thread >= kThreads) known = false;
  });
  at::set_num_threads(before);
  for (const std::atomic<int>& count : seen) EXPECT_EQ(count, 1);
  EXPECT_TRUE(known);
}

}  // namespace
}  // namespace dreamstate::training
