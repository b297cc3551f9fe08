// The one pool that kernels compute on.
// Run() is called by one thread at a time (the engine's loop); the caller works too. Between calls
// workers spin briefly, then sleep, so that the many short regions of a decode step cost
// microseconds and an idle server costs nothing. Run() does not allocate.
#pragma once

#include <cstdint>
#include <memory>

namespace dreamstate::kernels {

class ThreadPool {
 public:
  // `threads` >= 1, the caller of Run() included: 1 starts none.
  explicit ThreadPool(int threads);
  // Threads of somebody else's pool, so that two pools never wait for the same processors:
  // `fork` calls body(context, thread) for every thread in [0, threads) and returns when all are
  // done.
  using Fork = void (*)(int threads, void (*body)(void* context, int thread), void* context);
  ThreadPool(int threads, Fork fork);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // As many as were asked for, or fewer where the system gave no more.
  int threads() const;

  // Calls body(begin, end, thread) over [0, count) in pieces of at least `grain` (>= 1), each index
  // once; returns when all are done. Which thread gets which piece is not defined: a body's result
  // must not depend on it. `thread` in [0, threads()).
  template <typename Body>
  void ParallelFor(int64_t count, int64_t grain, const Body& body) {
    Run(
        count, grain,
        [](void* context, int64_t begin, int64_t end, int thread) {
          (*static_cast<const Body*>(context))(begin, end, thread);
        },
        const_cast<Body*>(&body));
  }

 private:
  using Function = void (*)(void* context, int64_t begin, int64_t end, int thread);
  void Run(int64_t count, int64_t grain, Function function, void* context);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dreamstate::kernels
