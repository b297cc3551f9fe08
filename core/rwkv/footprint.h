// How much memory a backbone takes, before it is taken.
#pragma once

#include <cstdint>

#include "core/rwkv/weights.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::rwkv {

// The most bytes that Weights::Load holds at once beside the mapped file: everything packed, and
// the largest tensor in fp32 on its way. A bound from above, near the truth for real sizes. Pure;
// reads no tensor's data.
int64_t EstimateLoadBytes(const tensors::TensorSet& set, WeightFormat format,
                          const FormatPolicy& policy = FormatPolicy::Default());
// The same with the buffers of an engine that reads a short text, and the rest of the process.
int64_t EstimateRunBytes(const tensors::TensorSet& set, WeightFormat format,
                         const FormatPolicy& policy = FormatPolicy::Default());

}  // namespace dreamstate::rwkv
