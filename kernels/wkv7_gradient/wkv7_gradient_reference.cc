#include "kernels/wkv7_gradient/wkv7_gradient_reference.h"

#include "kernels/wkv7_gradient/wkv7_gradient_isa.h"

namespace dreamstate::kernels {
namespace {

Wkv7ReferenceHead<float> Inputs(const Wkv7TrainingHead& head, int first, int count,
                                const float* state) {
  const int64_t at = first * head.stride;
  return {.head_size = head.head_size,
          .tokens = count,
          .stride = head.stride,
          .r = head.r + at,
          .w_raw = head.w_raw + at,
          .k = head.k + at,
          .v = head.v + at,
          .a = head.a + at,
          .b = head.b + at,
          .initial_state = state};
}

int SegmentTokens(const Wkv7TrainingHead& head, int first) {
  return head.tokens - first < kWkv7CheckpointTokens ? head.tokens - first : kWkv7CheckpointTokens;
}

}  // namespace

void Wkv7ForwardOfReference(const Wkv7ForwardHead& forward) {
  const Wkv7TrainingHead& head = forward.head;
  const int n = head.head_size;
  const int64_t size = static_cast<int64_t>(n) * n;
  std::vector<float> states;
  std::vector<float> state(size, 0.0f);
  if (head.initial_state != nullptr) state.assign(head.initial_state, head.initial_state + size);
  for (int first = 0; first < head.tokens; first += kWkv7CheckpointTokens) {
    const int count = SegmentTokens(head, first);
    if (head.kept_states != nullptr) {
      float* kept = head.kept_states + first / kWkv7CheckpointTokens * size;
      for (int64_t i = 0; i < size; ++i) kept[i] = state[i];
    }
    Wkv7ReferenceForward(Inputs(head, first, count, state.data()), &states,
                         forward.y + first * head.stride);
    for (int t = 0; head.sa != nullptr && t < count; ++t) {
      const int64_t at = (first + t) * head.stride;
      for (int i = 0; i < n; ++i) {
        float sa = 0.0f;
        for (int j = 0; j < n; ++j) sa += states[t * size + i * n + j] * head.a[at + j];
        head.sa[at + i] = sa;
      }
    }
    state.assign(states.end() - size, states.end());
  }
  if (forward.final_state != nullptr) {
    for (int64_t i = 0; i < size; ++i) forward.final_state[i] = state[i];
  }
}

void Wkv7BackwardOfReference(const Wkv7BackwardHead& backward) {
  const Wkv7TrainingHead& head = backward.head;
  const int n = head.head_size;
  const int64_t size = static_cast<int64_t>(n) * n;
  std::vector<float> states;
  std::vector<float> y(static_cast<size_t>(kWkv7CheckpointTokens) * head.stride);
  std::vector<float> g(size, 0.0f);
  if (backward.d_final_state != nullptr) {
    g.assign(backward.d_final_state, backward.d_final_state + size);
  }
  std::vector<float> before(size);
  const int segments = (head.tokens + kWkv7CheckpointTokens - 1) / kWkv7CheckpointTokens;
  for (int s = segments - 1; s >= 0; --s) {
    const int first = s * kWkv7CheckpointTokens;
    const Wkv7ReferenceHead<float> inputs =
        Inputs(head, first, SegmentTokens(head, first), head.kept_states + s * size);
    Wkv7ReferenceForward(inputs, &states, y.data());
    const int64_t at = first * head.stride;
    Wkv7ReferenceBackward<float>(inputs, states, backward.dy + at, g.data(),
                                 {.r = backward.dr + at,
                                  .w_raw = backward.dw_raw + at,
                                  .k = backward.dk + at,
                                  .v = backward.dv + at,
                                  .a = backward.da + at,
                                  .b = backward.db + at,
                                  .initial_state = before.data()});
    g.swap(before);
  }
  if (backward.d_initial_state != nullptr) {
    for (int64_t i = 0; i < size; ++i) backward.d_initial_state[i] = g[i];
  }
}

}  // namespace dreamstate::kernels
