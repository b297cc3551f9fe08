// Memory aligned to a cache line, and to 2 MiB (with transparent huge pages asked for) from 4 MiB
// on.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

namespace dreamstate::kernels {

inline constexpr size_t kAlignment = 64;

struct AlignedDelete {
  void operator()(void* memory) const;
};

template <typename T>
using AlignedBuffer = std::unique_ptr<T[], AlignedDelete>;

// Zeroed bytes, or nullptr when there is no memory. `bytes` is rounded up to kAlignment, 0
// included.
void* AllocateAligned(size_t bytes);

// `count` zeroed elements of a trivial type; throws std::bad_alloc when there is no memory.
template <typename T>
AlignedBuffer<T> MakeAligned(size_t count) {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
  if (count > std::numeric_limits<size_t>::max() / sizeof(T)) throw std::bad_alloc();
  void* memory = AllocateAligned(count * sizeof(T));
  if (memory == nullptr) throw std::bad_alloc();
  return AlignedBuffer<T>(static_cast<T*>(memory));
}

}  // namespace dreamstate::kernels
