// Memory for what is read in one stream, such as the matrices of a model: one region of huge pages,
// handed out from the front. Matrices of their own would be too small for huge pages, and a stream
// over small pages waits for the page table every 4 KiB. Memory is taken from the system as it is
// written. Not thread-safe.
#pragma once

#include <cstddef>

namespace dreamstate::kernels {

class Arena {
 public:
  Arena() = default;
  // Address space for `capacity_bytes`; none when the system refuses it.
  explicit Arena(size_t capacity_bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Zeroed bytes aligned to kAlignment that live as long as the arena, or nullptr when they do not
  // fit.
  std::byte* Allocate(size_t bytes);
  size_t capacity_bytes() const { return capacity_; }
  size_t used_bytes() const { return used_; }

 private:
  std::byte* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::byte* begin_ = nullptr;  // the first huge page
  size_t capacity_ = 0;
  size_t used_ = 0;
};

}  // namespace dreamstate::kernels
