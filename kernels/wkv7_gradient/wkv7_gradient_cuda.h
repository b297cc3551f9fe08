// The CUDA twin of wkv7_gradient.h: the same operator over device memory. Built where nvcc is found
// (DREAMSTATE_CUDA). Head sizes 16, 32 and 64.
// Every pointer is device memory, fp32, in the shapes of wkv7_gradient.h. Work is queued on
// `stream` (a cudaStream_t; null = the default stream) and these return at once: 0, or the
// cudaError_t of a launch that failed, or kWkv7CudaHeadSize for a head size that is not built.
// Between kept states the backward pass divides the decay out again, as the official kernel does: a
// decay is above 0.545, so sixteen tokens amplify rounding at most 1.6e4 times (spec section 3: an
// absolute error of 3e-3 at worst, with every decay the fastest, and of 3e-5 typically).
#pragma once

#include "kernels/wkv7_gradient/wkv7_gradient.h"

namespace dreamstate::kernels {

inline constexpr int kWkv7CudaHeadSize = -1;

// Wkv7Kept::states holds the state after each segment, transposed; its size is
// Wkv7KeptStateFloats(shape).
int Wkv7TrainingForwardCuda(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                            float* y, float* final_state, const Wkv7Kept* kept, void* stream);

int Wkv7TrainingBackwardCuda(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                             const Wkv7Kept& kept, const float* dy, const float* d_final_state,
                             const Wkv7TrainingGradients& gradients, void* stream);

}  // namespace dreamstate::kernels
