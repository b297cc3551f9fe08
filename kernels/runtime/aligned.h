// Memory aligned to a cache line, and to 2 MiB (with transparent huge pages asked for) from 4 MiB on.
#pragma once

#include <cstddef>
#include <memory>

namespace dreamstate::kernels {

inline constexpr size_t kAlignment = 64;

struct AlignedDelete {
  void operator()(void* memory) const;
};

template <typename T>
using AlignedBuffer = std::unique_ptr<T[], AlignedDelete>;

// Zeroed bytes, or nullptr when there is no memory. `bytes` is rounded up to kAlignment, 0 included.
void* AllocateAligned(size_t bytes);

// `count` zeroed elements of a trivial type; throws std::bad_alloc when there is no memory.
template <typename T>
AlignedBuffer<T> MakeAligned(size_t count);

}  // namespace dreamstate::kernels

#include "kernels/runtime/aligned_inl.h"
