#include "kernels/runtime/arena.h"

#include <sys/mman.h>

#include <cstdint>
#include <limits>

#include "kernels/runtime/aligned.h"

namespace dreamstate::kernels {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}  // namespace

Arena::Arena(size_t capacity_bytes) {
  if (capacity_bytes == 0 || capacity_bytes > std::numeric_limits<size_t>::max() / 2) return;
  const size_t rounded = (capacity_bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* mapped = mmap(nullptr, rounded + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return;
  mapped_ = static_cast<std::byte*>(mapped);
  mapped_bytes_ = rounded + kHugePage;
  const size_t past = reinterpret_cast<uintptr_t>(mapped_) % kHugePage;
  begin_ = mapped_ + (past == 0 ? 0 : kHugePage - past);
  capacity_ = rounded;
  // A refusal costs only speed.
  madvise(begin_, capacity_, MADV_HUGEPAGE);
}

Arena::~Arena() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
}

std::byte* Arena::Allocate(size_t bytes) {
  if (bytes > capacity_) return nullptr;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (rounded > capacity_ - used_) return nullptr;
  std::byte* memory = begin_ + used_;
  used_ += rounded;
  return memory;
}

}  // namespace dreamstate::kernels
