// Counts calls of operator new in a test program and the bytes that it holds, so that "allocates
// nothing" and "takes no more than" can be tested. Link allocation_counter.cc.
#pragma once

#include <cstdint>

namespace dreamstate::testing {

// Calls of operator new so far, from any thread.
int64_t Allocations();

// The most bytes that all threads together hold from operator new at once while this lives, beyond
// what they held when it was made. One at a time.
class PeakMemory {
 public:
  PeakMemory();
  int64_t bytes() const;

 private:
  int64_t before_;
};

}  // namespace dreamstate::testing
