#include "tests/support/allocation_counter.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<int64_t> allocations{0};
thread_local int64_t until_failure = 0;
std::atomic<int64_t> held_bytes{0};
std::atomic<int64_t> most_held_bytes{0};

void* Allocate(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (until_failure > 0 && --until_failure == 0) throw std::bad_alloc();
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  const auto usable = static_cast<int64_t>(malloc_usable_size(memory));
  const int64_t held = held_bytes.fetch_add(usable, std::memory_order_relaxed) + usable;
  int64_t most = most_held_bytes.load(std::memory_order_relaxed);
  while (held > most && !most_held_bytes.compare_exchange_weak(most, held)) {
  }
  return memory;
}

void Release(void* memory) {
  if (memory == nullptr) return;
  held_bytes.fetch_sub(static_cast<int64_t>(malloc_usable_size(memory)), std::memory_order_relaxed);
  std::free(memory);
}
}  // namespace

void* operator new(std::size_t bytes) { return Allocate(bytes); }
void* operator new[](std::size_t bytes) { return Allocate(bytes); }
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, std::size_t) noexcept { Release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { Release(memory); }

namespace dreamstate::testing {

int64_t Allocations() { return allocations.load(std::memory_order_relaxed); }

void FailAllocation(int64_t n) { until_failure = n; }

PeakMemory::PeakMemory() : before_(held_bytes.load()) { most_held_bytes.store(before_); }

int64_t PeakMemory::bytes() const { return most_held_bytes.load() - before_; }

}  // namespace dreamstate::testing
