// Walks a row in vectors: whole ones first, then the lanes that are left under a mask. A lane
// computes the same either way; whole vectors only avoid masked stores, which some processors are
// slow at.
#pragma once

namespace dreamstate::kernels {

// The mask of a whole vector, known when compiling.
struct AllLanes {};

// Calls body(i, lanes) with `lanes` an AllLanes or a V::Mask; instantiated with a V of internal
// linkage only.
template <class V, class Body>
inline void ForEachVector(int count, const Body& body) {
  int i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) body(i, AllLanes{});
  if (i < count) body(i, V::FirstLanes(count - i));
}

}  // namespace dreamstate::kernels
