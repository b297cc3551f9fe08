#include "kernels/wkv7_gradient/wkv7_gradient.h"

#include "kernels/runtime/aligned.h"
#include "kernels/runtime/cpu.h"
#include "kernels/wkv7_gradient/wkv7_gradient_isa.h"

namespace dreamstate::kernels {
namespace {

struct Functions {
  void (*forward)(const Wkv7ForwardHead&);
  void (*backward)(const Wkv7BackwardHead&);
};
constexpr Functions kByIsa[kIsaCount] = {
    {Wkv7ForwardOfReference, Wkv7BackwardOfReference},  // reference
    {Wkv7ForwardOfAvx2, Wkv7BackwardOfAvx2},            // avx2
    {Wkv7ForwardOfAvx512, Wkv7BackwardOfAvx512},        // avx512
    {Wkv7ForwardOfAvx512, Wkv7BackwardOfAvx512},        // avx512vnni
    {Wkv7ForwardOfAvx512, Wkv7BackwardOfAvx512},        // avx512bf16
    {Wkv7ForwardOfAvx512, Wkv7BackwardOfAvx512},        // amx
};

int64_t Segments(const Wkv7TrainingShape& shape) {
  return (shape.tokens + kWkv7CheckpointTokens - 1) / kWkv7CheckpointTokens;
}

// Calls body(head, offset of its first token, offset of its state) for every head of every
// sequence.
template <typename Body>
void ForEachHead(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                 const Wkv7Kept* kept, ThreadPool& pool, const Body& body) {
  const int n = shape.head_size;
  const int64_t stride = static_cast<int64_t>(shape.heads) * n;
  const int64_t state_size = static_cast<int64_t>(n) * n;
  const int64_t scratch_size = Wkv7TrainingScratchFloats(n);
  const AlignedBuffer<float> scratch = MakeAligned<float>(scratch_size * pool.threads());
  const auto run = [&](int64_t begin, int64_t end, int thread) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t at = unit / shape.heads * shape.tokens * stride + unit % shape.heads * n;
      const int64_t state_at = unit * state_size;
      const Wkv7TrainingHead head = {
          .head_size = n,
          .tokens = shape.tokens,
          .stride = stride,
          .r = inputs.r + at,
          .w_raw = inputs.w_raw + at,
          .k = inputs.k + at,
          .v = inputs.v + at,
          .a = inputs.a + at,
          .b = inputs.b + at,
          .initial_state =
              inputs.initial_state == nullptr ? nullptr : inputs.initial_state + state_at,
          .kept_states =
              kept == nullptr ? nullptr : kept->states + unit * Segments(shape) * state_size,
          .sa = kept == nullptr ? nullptr : kept->sa + at,
          .scratch = scratch.get() + thread * scratch_size};
      body(head, at, state_at);
    }
  };
  pool.ParallelFor(static_cast<int64_t>(shape.batch) * shape.heads, 1, run);
}

float* Offset(float* p, int64_t at) { return p == nullptr ? nullptr : p + at; }

}  // namespace

size_t Wkv7KeptStateFloats(const Wkv7TrainingShape& shape) {
  return static_cast<size_t>(shape.batch) * shape.heads * Segments(shape) * shape.head_size *
         shape.head_size;
}

void Wkv7TrainingForward(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs, float* y,
                         float* final_state, const Wkv7Kept* kept, ThreadPool& pool) {
  const auto function = kByIsa[static_cast<int>(ActiveIsa())].forward;
  ForEachHead(shape, inputs, kept, pool,
              [&](const Wkv7TrainingHead& head, int64_t at, int64_t state_at) {
                function({.head = head, .y = y + at, .final_state = Offset(final_state, state_at)});
              });
}

void Wkv7TrainingBackward(const Wkv7TrainingShape& shape, const Wkv7TrainingInputs& inputs,
                          const Wkv7Kept& kept, const float* dy, const float* d_final_state,
                          const Wkv7TrainingGradients& gradients, ThreadPool& pool) {
  const auto function = kByIsa[static_cast<int>(ActiveIsa())].backward;
  ForEachHead(
      shape, inputs, &kept, pool, [&](const Wkv7TrainingHead& head, int64_t at, int64_t state_at) {
        function({.head = head,
                  .dy = dy + at,
                  .d_final_state = d_final_state == nullptr ? nullptr : d_final_state + state_at,
                  .dr = gradients.r + at,
                  .dw_raw = gradients.w_raw + at,
                  .dk = gradients.k + at,
                  .dv = gradients.v + at,
                  .da = gradients.a + at,
                  .db = gradients.b + at,
                  .d_initial_state = Offset(gradients.initial_state, state_at)});
      });
}

}  // namespace dreamstate::kernels
