// Counts calls of operator new in a test program and the bytes that it holds, and makes them fail,
// so that "allocates nothing", "takes no more than" and "nothing has changed" can be tested. Link
// allocation_counter.cc.
#pragma once

#include <cstdint>

namespace dreamstate::testing {

// Calls of operator new so far, from any thread.
int64_t Allocations();

// The n-th call of operator new of this thread from now (from 1), and no other, throws
// std::bad_alloc. 0 ends the waiting for it.
void FailAllocation(int64_t n);

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
