// Counts calls of operator new in a test program, so that "allocates nothing" can be tested. Link
// allocation_counter.cc.
#pragma once

#include <cstdint>

namespace dreamstate::testing {

// Calls of operator new so far, from any thread.
int64_t Allocations();

}  // namespace dreamstate::testing
