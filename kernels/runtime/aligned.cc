#include "kernels/runtime/aligned.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace dreamstate::kernels {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugeFrom = size_t{4} << 20;
}  // namespace

void AlignedDelete::operator()(void* memory) const { std::free(memory); }

void* AllocateAligned(size_t bytes) {
  if (bytes > std::numeric_limits<size_t>::max() - kHugePage) return nullptr;
  const bool huge = bytes >= kHugeFrom;
  const size_t alignment = huge ? kHugePage : kAlignment;
  const size_t rounded =
      bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  // std::aligned_alloc wants a multiple of the alignment; posix_memalign does not.
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, rounded) != 0) return nullptr;
  // Asked for before the first touch, so that the zeroing below already faults in huge pages. A
  // refusal costs only speed.
  if (huge) madvise(memory, rounded, MADV_HUGEPAGE);
  std::memset(memory, 0, rounded);
  return memory;
}

}  // namespace dreamstate::kernels
