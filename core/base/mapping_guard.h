// Keeps the process alive when a mapped file is truncated under it. Touching a page that the file
// no longer has raises SIGBUS, which ends a program; for mappings that are guarded here the page
// reads as zeros from then on. Whoever reads such a file finds out by asking, or by comparing a
// hash after the last read: zeros stay where they came. (systemd guards its journals the same way.)
#pragma once

#include <cstddef>
#include <span>

namespace dreamstate {

// How many mappings can be guarded at once; those beyond are not.
inline constexpr size_t kMostGuardedMappings = 1024;

// Guards `bytes`, a mapping, until this object goes, which is to be before the mapping goes.
// Thread-safe. The first one sets the process's handler for SIGBUS; faults elsewhere, and signals
// that were sent, go where they went before.
class MappingGuard {
 public:
  explicit MappingGuard(std::span<const std::byte> bytes);
  ~MappingGuard();
  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;
  // Whether a page of it was read that the file no longer had. Never taken back.
  bool lost() const;

 private:
  int place_ = -1;
};

// lost() of the guard whose mapping holds the first of `bytes`; false when there is none.
bool LostPages(std::span<const std::byte> bytes);

}  // namespace dreamstate
