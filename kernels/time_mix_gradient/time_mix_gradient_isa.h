// What each instruction set implements: blocks of rows of the operators of time_mix_gradient.h.
// Parameter gradients of a block are written to its own partial sums.
#pragma once

#include "kernels/time_mix_gradient/time_mix_gradient.h"

namespace dreamstate::kernels {

// Rows [begin, end) lie within one sequence each way: row = b T + t.
template <typename Element>
struct NormShiftMixBlock {
  NormShiftMixShape shape;
  NormShiftMixInputs inputs;
  int64_t begin, end;
  float* scratch;  // [2][D]
  // Forward.
  Element* mixed[kMostMixes];
  float* last;
  float* moments;
  // Backward.
  const Element* d_mixed[kMostMixes];
  const float* d_last;
  const float* d_residual;
  NormShiftMixGradients gradients;
};

template <typename Element>
struct Wkv7PrepareBlock {
  HeadsShape shape;
  Wkv7PrepareInputs<Element> inputs;
  int64_t begin, end;
  Wkv7Prepared out;
  Wkv7PreparedGradients d_out;
  Wkv7PrepareGradients<Element> gradients;
};

template <typename Element>
struct Wkv7FinishBlock {
  HeadsShape shape;
  Wkv7FinishInputs<Element> inputs;
  int64_t begin, end;
  Element* out;
  const Element* d_out;
  Wkv7FinishGradients<Element> gradients;
};

// Elements [begin, end), multiples of 16.
template <typename Element>
struct SquaredReluBlock {
  int64_t begin, end;
  const Element* x;
  const Element* d_out;  // null: the forward pass
  Element* out;          // or, backward, d_x
};

template <typename Element>
struct TimeMixFunctions {
  void (*mix_forward)(const NormShiftMixBlock<Element>&);
  void (*mix_backward)(const NormShiftMixBlock<Element>&);
  void (*prepare_forward)(const Wkv7PrepareBlock<Element>&);
  void (*prepare_backward)(const Wkv7PrepareBlock<Element>&);
  void (*finish_forward)(const Wkv7FinishBlock<Element>&);
  void (*finish_backward)(const Wkv7FinishBlock<Element>&);
  void (*squared_relu)(const SquaredReluBlock<Element>&);
};
struct TimeMixKernels {
  TimeMixFunctions<float> fp32;
  TimeMixFunctions<Bf16> bf16;
};
extern const TimeMixKernels kTimeMixReference;
extern const TimeMixKernels kTimeMixAvx2;
extern const TimeMixKernels kTimeMixAvx512;

}  // namespace dreamstate::kernels
