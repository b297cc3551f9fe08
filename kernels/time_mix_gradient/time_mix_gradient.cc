#include "kernels/time_mix_gradient/time_mix_gradient.h"

#include <algorithm>
#include <type_traits>

#include "kernels/runtime/aligned.h"
#include "kernels/runtime/cpu.h"
#include "kernels/time_mix_gradient/time_mix_gradient_isa.h"

namespace dreamstate::kernels {
namespace {

constexpr const TimeMixKernels* kByIsa[kIsaCount] = {
    &kTimeMixReference,  // reference
    &kTimeMixAvx2,       // avx2
    &kTimeMixAvx512,     // avx512
    &kTimeMixAvx512,     // avx512vnni
    &kTimeMixAvx512,     // avx512bf16
    &kTimeMixAvx512,     // amx
};

template <typename Element>
const TimeMixFunctions<Element>& Functions() {
  const TimeMixKernels& kernels = *kByIsa[static_cast<int>(ActiveIsa())];
  if constexpr (std::is_same_v<Element, float>) {
    return kernels.fp32;
  } else {
    return kernels.bf16;
  }
}

// Rows are cut into as many blocks whatever the number of threads: sums over blocks, in order, are
// then the same for any.
constexpr int64_t kBlocks = 16;

// Calls body(block number, first row, last row + 1).
template <typename Body>
void ForEachBlock(int64_t rows, ThreadPool& pool, const Body& body) {
  const int64_t per_block = (rows + kBlocks - 1) / kBlocks;
  pool.ParallelFor(kBlocks, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = std::min(rows, block * per_block);
      const int64_t end = std::min(rows, begin + per_block);
      if (begin < end) body(block, begin, end);
    }
  });
}

// Sums of a few arrays of `width` elements, a set a block.
class PartialSums {
 public:
  PartialSums(int width, int arrays)
      : width_(width),
        arrays_(arrays),
        values_(MakeAligned<float>(static_cast<size_t>(kBlocks) * arrays * width)) {
    std::fill_n(values_.get(), kBlocks * arrays * width, 0.0f);
  }
  float* Of(int64_t block, int array) { return values_.get() + (block * arrays_ + array) * width_; }
  void AddUp(int array, float* out) {
    for (int i = 0; i < width_; ++i) {
      float sum = 0.0f;
      for (int64_t block = 0; block < kBlocks; ++block) sum += Of(block, array)[i];
      out[i] = sum;
    }
  }

 private:
  int width_, arrays_;
  AlignedBuffer<float> values_;
};

}  // namespace

template <typename Element>
void NormShiftMixForward(const NormShiftMixShape& shape, const NormShiftMixInputs& inputs,
                         Element* const* mixed, float* last, float* moments, ThreadPool& pool) {
  PartialSums scratch(shape.width, 2);
  ForEachBlock(static_cast<int64_t>(shape.batch) * shape.tokens, pool,
               [&](int64_t block, int64_t begin, int64_t end) {
                 NormShiftMixBlock<Element> work = {.shape = shape,
                                                    .inputs = inputs,
                                                    .begin = begin,
                                                    .end = end,
                                                    .scratch = scratch.Of(block, 0),
                                                    .mixed = {},
                                                    .last = last,
                                                    .moments = moments,
                                                    .d_mixed = {},
                                                    .d_last = nullptr,
                                                    .d_residual = nullptr,
                                                    .gradients = {}};
                 std::copy_n(mixed, shape.mixes, work.mixed);
                 Functions<Element>().mix_forward(work);
               });
}

template <typename Element>
void NormShiftMixBackward(const NormShiftMixShape& shape, const NormShiftMixInputs& inputs,
                          const float* moments, const Element* const* d_mixed, const float* d_last,
                          const float* d_residual, const NormShiftMixGradients& gradients,
                          ThreadPool& pool) {
  PartialSums scratch(shape.width, 2);
  PartialSums sums(shape.width, 2 + shape.mixes);  // weight, bias, mixes
  ForEachBlock(static_cast<int64_t>(shape.batch) * shape.tokens, pool,
               [&](int64_t block, int64_t begin, int64_t end) {
                 NormShiftMixBlock<Element> work = {.shape = shape,
                                                    .inputs = inputs,
                                                    .begin = begin,
                                                    .end = end,
                                                    .scratch = scratch.Of(block, 0),
                                                    .mixed = {},
                                                    .last = nullptr,
                                                    .moments = const_cast<float*>(moments),
                                                    .d_mixed = {},
                                                    .d_last = d_last,
                                                    .d_residual = d_residual,
                                                    .gradients = gradients};
                 std::copy_n(d_mixed, shape.mixes, work.d_mixed);
                 work.gradients.weight = sums.Of(block, 0);
                 work.gradients.bias = sums.Of(block, 1);
                 work.gradients.mix = sums.Of(block, 2);
                 Functions<Element>().mix_backward(work);
               });
  sums.AddUp(0, gradients.weight);
  sums.AddUp(1, gradients.bias);
  for (int n = 0; n < shape.mixes; ++n) sums.AddUp(2 + n, gradients.mix + n * shape.width);
}

template <typename Element>
void Wkv7PrepareForward(const HeadsShape& shape, const Wkv7PrepareInputs<Element>& inputs,
                        const Wkv7Prepared& out, ThreadPool& pool) {
  ForEachBlock(shape.rows, pool, [&](int64_t, int64_t begin, int64_t end) {
    Functions<Element>().prepare_forward({.shape = shape,
                                          .inputs = inputs,
                                          .begin = begin,
                                          .end = end,
                                          .out = out,
                                          .d_out = {},
                                          .gradients = {}});
  });
}

template <typename Element>
void Wkv7PrepareBackward(const HeadsShape& shape, const Wkv7PrepareInputs<Element>& inputs,
                         const Wkv7PreparedGradients& d_out,
                         const Wkv7PrepareGradients<Element>& gradients, ThreadPool& pool) {
  PartialSums sums(shape.heads * shape.head_size, 5);
  ForEachBlock(shape.rows, pool, [&](int64_t block, int64_t begin, int64_t end) {
    Wkv7PrepareBlock<Element> work = {.shape = shape,
                                      .inputs = inputs,
                                      .begin = begin,
                                      .end = end,
                                      .out = {},
                                      .d_out = d_out,
                                      .gradients = gradients};
    work.gradients.w0 = sums.Of(block, 0);
    work.gradients.a0 = sums.Of(block, 1);
    work.gradients.k_k = sums.Of(block, 2);
    work.gradients.k_a = sums.Of(block, 3);
    work.gradients.v0 = sums.Of(block, 4);
    Functions<Element>().prepare_backward(work);
  });
  sums.AddUp(0, gradients.w0);
  sums.AddUp(1, gradients.a0);
  sums.AddUp(2, gradients.k_k);
  sums.AddUp(3, gradients.k_a);
  if (inputs.v_first != nullptr) sums.AddUp(4, gradients.v0);
}

template <typename Element>
void Wkv7FinishForward(const HeadsShape& shape, const Wkv7FinishInputs<Element>& inputs,
                       Element* out, ThreadPool& pool) {
  ForEachBlock(shape.rows, pool, [&](int64_t, int64_t begin, int64_t end) {
    Functions<Element>().finish_forward({.shape = shape,
                                         .inputs = inputs,
                                         .begin = begin,
                                         .end = end,
                                         .out = out,
                                         .d_out = nullptr,
                                         .gradients = {}});
  });
}

template <typename Element>
void Wkv7FinishBackward(const HeadsShape& shape, const Wkv7FinishInputs<Element>& inputs,
                        const Element* d_out, const Wkv7FinishGradients<Element>& gradients,
                        ThreadPool& pool) {
  PartialSums sums(shape.heads * shape.head_size, 3);
  ForEachBlock(shape.rows, pool, [&](int64_t block, int64_t begin, int64_t end) {
    Wkv7FinishBlock<Element> work = {.shape = shape,
                                     .inputs = inputs,
                                     .begin = begin,
                                     .end = end,
                                     .out = nullptr,
                                     .d_out = d_out,
                                     .gradients = gradients};
    work.gradients.r_k = sums.Of(block, 0);
    work.gradients.weight = sums.Of(block, 1);
    work.gradients.bias = sums.Of(block, 2);
    Functions<Element>().finish_backward(work);
  });
  sums.AddUp(0, gradients.r_k);
  sums.AddUp(1, gradients.weight);
  sums.AddUp(2, gradients.bias);
}

template <typename Element>
void SquaredRelu(int64_t count, const Element* x, const Element* d_out, Element* out,
                 ThreadPool& pool) {
  constexpr int64_t kGroup = 16;
  ForEachBlock(count / kGroup, pool, [&](int64_t, int64_t begin, int64_t end) {
    Functions<Element>().squared_relu(
        {.begin = begin * kGroup, .end = end * kGroup, .x = x, .d_out = d_out, .out = out});
  });
}

template <typename Element>
void SquaredReluForward(int64_t count, const Element* x, Element* out, ThreadPool& pool) {
  SquaredRelu<Element>(count, x, nullptr, out, pool);
}

template <typename Element>
void SquaredReluBackward(int64_t count, const Element* x, const Element* d_out, Element* d_x,
                         ThreadPool& pool) {
  SquaredRelu<Element>(count, x, d_out, d_x, pool);
}

#define DREAMSTATE_INSTANTIATE(Element)                                                          \
  template void NormShiftMixForward(const NormShiftMixShape&, const NormShiftMixInputs&,         \
                                    Element* const*, float*, float*, ThreadPool&);               \
  template void NormShiftMixBackward(const NormShiftMixShape&, const NormShiftMixInputs&,        \
                                     const float*, const Element* const*, const float*,          \
                                     const float*, const NormShiftMixGradients&, ThreadPool&);   \
  template void Wkv7PrepareForward(const HeadsShape&, const Wkv7PrepareInputs<Element>&,         \
                                   const Wkv7Prepared&, ThreadPool&);                            \
  template void Wkv7PrepareBackward(const HeadsShape&, const Wkv7PrepareInputs<Element>&,        \
                                    const Wkv7PreparedGradients&,                                \
                                    const Wkv7PrepareGradients<Element>&, ThreadPool&);          \
  template void Wkv7FinishForward(const HeadsShape&, const Wkv7FinishInputs<Element>&, Element*, \
                                  ThreadPool&);                                                  \
  template void Wkv7FinishBackward(const HeadsShape&, const Wkv7FinishInputs<Element>&,          \
                                   const Element*, const Wkv7FinishGradients<Element>&,          \
                                   ThreadPool&);                                                 \
  template void SquaredReluForward(int64_t, const Element*, Element*, ThreadPool&);              \
  template void SquaredReluBackward(int64_t, const Element*, const Element*, Element*, ThreadPool&)
DREAMSTATE_INSTANTIATE(float);
DREAMSTATE_INSTANTIATE(Bf16);
#undef DREAMSTATE_INSTANTIATE

}  // namespace dreamstate::kernels
