// What each instruction set implements of the activations; activation.cc chooses.
#pragma once

#include <cstdint>

#include "kernels/activation/activation.h"

namespace dreamstate::kernels {

// Rows [begin, end).
void TimeMixGatesOfReference(const TimeMixGates& gates, int64_t begin, int64_t end);
void TimeMixGatesOfAvx2(const TimeMixGates& gates, int64_t begin, int64_t end);
void TimeMixGatesOfAvx512(const TimeMixGates& gates, int64_t begin, int64_t end);

}  // namespace dreamstate::kernels
