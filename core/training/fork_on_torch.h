// Our kernels on torch's threads: two pools would fight for the same processors. Internal to
// core/training: shows torch types.
#pragma once

#include <ATen/Parallel.h>

#include <cstdint>

#include "kernels/runtime/thread_pool.h"

#ifndef INTRA_OP_PARALLEL
#error \
    "Without OpenMP at::parallel_for is a plain loop: compile with -fopenmp (cmake/LibTorch.cmake)"
#endif

namespace dreamstate::training {

// For kernels::ThreadPool(torch::get_num_threads(), ForkOnTorch).
inline void ForkOnTorch(int threads, void (*body)(void* context, int thread), void* context) {
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) body(context, static_cast<int>(thread));
  });
}

}  // namespace dreamstate::training
