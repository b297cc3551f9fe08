// WKV-7's training for a vector type V. Lanes lie over keys. Given sa, the rows (values) of a state
// do not depend on each other, so the backward pass takes two rows at a time through a whole
// segment: their sixteen states are recomputed from the kept one and never leave the first-level
// cache, and what is summed over rows (the gradients of r, w, k, a, b) lies in five small tables.
#pragma once

#include "kernels/activation/vector_math.h"
#include "kernels/wkv7_gradient/wkv7_gradient_isa.h"

namespace dreamstate::kernels {

// decay[t][j] = exp(c0 sigmoid(w_raw)), and, when wanted, its derivative by w_raw.
template <class V>
inline void Wkv7Decays(const Wkv7TrainingHead& head, int first, int count, float* decay,
                       float* slope) {
  constexpr float kScale = -0.606530659712633424f;
  const int n = head.head_size;
  for (int t = 0; t < count; ++t) {
    const float* w_raw = head.w_raw + (first + t) * head.stride;
    for (int j = 0; j < n; j += V::kLanes) {
      const typename V::Type sigmoid = Sigmoid<V>(V::Load(w_raw + j));
      const typename V::Type w = Exp<V>(V::Mul(V::Set(kScale), sigmoid));
      V::Store(decay + t * n + j, w);
      if (slope == nullptr) continue;
      const typename V::Type bell = V::Mul(sigmoid, V::Sub(V::Set(1.0f), sigmoid));
      V::Store(slope + t * n + j, V::Mul(V::Mul(w, V::Set(kScale)), bell));
    }
  }
}

// kRows rows of the state, beginning with row i, through `count` tokens from `first`. A row waits
// for its own sum at every token, so several go side by side.
template <class V, int kRows>
inline void Wkv7ForwardRows(const Wkv7ForwardHead& forward, int first, int count,
                            const float* decay, float* state, int i) {
  using Type = typename V::Type;
  const Wkv7TrainingHead& head = forward.head;
  const int n = head.head_size;
  float* rows = state + static_cast<int64_t>(i) * n;
  Type sum[kRows];
  for (int q = 0; q < kRows; ++q) {
    sum[q] = V::Zero();
    for (int j = 0; j < n; j += V::kLanes) {
      sum[q] = V::Fma(V::Load(rows + q * n + j), V::Load(head.a + first * head.stride + j), sum[q]);
    }
  }
  for (int t = 0; t < count; ++t) {
    const int64_t at = (first + t) * head.stride;
    // The last token of a segment has no next one to sum for: any row does.
    const float* next_a = head.a + (t + 1 < count ? at + head.stride : at);
    const float* w = decay + t * n;
    Type sa[kRows], v[kRows], y[kRows];
    for (int q = 0; q < kRows; ++q) {
      const float total = V::Sum(sum[q]);
      if (head.sa != nullptr) head.sa[at + i + q] = total;
      sa[q] = V::Set(total);
      v[q] = V::Set(head.v[at + i + q]);
      y[q] = V::Zero();
      sum[q] = V::Zero();
    }
    for (int j = 0; j < n; j += V::kLanes) {
      const Type decay_j = V::Load(w + j), b = V::Load(head.b + at + j),
                 k = V::Load(head.k + at + j), r = V::Load(head.r + at + j),
                 a = V::Load(next_a + j);
      for (int q = 0; q < kRows; ++q) {
        Type s = V::Mul(V::Load(rows + q * n + j), decay_j);
        s = V::Fma(sa[q], b, s);
        s = V::Fma(v[q], k, s);
        V::Store(rows + q * n + j, s);
        y[q] = V::Fma(s, r, y[q]);
        sum[q] = V::Fma(s, a, sum[q]);
      }
    }
    for (int q = 0; q < kRows; ++q) forward.y[at + i + q] = V::Sum(y[q]);
  }
}

template <class V>
inline void Wkv7ForwardVector(const Wkv7ForwardHead& forward) {
  constexpr int kRows = 4;  // divides every head size
  const Wkv7TrainingHead& head = forward.head;
  const int n = head.head_size;
  float* state = head.scratch;
  float* decay = state + static_cast<int64_t>(n) * n;
  for (int i = 0; i < n * n; ++i) {
    state[i] = head.initial_state == nullptr ? 0.0f : head.initial_state[i];
  }
  for (int first = 0; first < head.tokens; first += kWkv7CheckpointTokens) {
    const int count =
        head.tokens - first < kWkv7CheckpointTokens ? head.tokens - first : kWkv7CheckpointTokens;
    Wkv7Decays<V>(head, first, count, decay, nullptr);
    if (head.kept_states != nullptr) {
      float* kept = head.kept_states + static_cast<int64_t>(first / kWkv7CheckpointTokens) * n * n;
      for (int i = 0; i < n * n; i += V::kLanes) V::Store(kept + i, V::Load(state + i));
    }
    for (int i = 0; i < n; i += kRows) {
      Wkv7ForwardRows<V, kRows>(forward, first, count, decay, state, i);
    }
  }
  if (forward.final_state != nullptr) {
    for (int i = 0; i < n * n; ++i) forward.final_state[i] = state[i];
  }
}

// The tables of one segment: rows of n floats, a token each.
struct Wkv7Segment {
  int first;
  int count;
  const float* kept;   // [N][N]: the state before it
  const float* decay;  // [count][N]
  float *dr, *dw, *dk, *da, *db;
};

// kRows rows of the state, beginning with row i, through a segment. states: [kRows][count + 1][N]
// scratch; g: [kRows][N], the gradient of the rows after the segment, turned into that before it.
template <class V, int kRows>
inline void Wkv7BackwardRows(const Wkv7BackwardHead& backward, const Wkv7Segment& segment, int i,
                             float* states, float* g) {
  using Type = typename V::Type;
  const Wkv7TrainingHead& head = backward.head;
  const int n = head.head_size;
  const int64_t per_row = static_cast<int64_t>(kWkv7CheckpointTokens + 1) * n;
  for (int q = 0; q < kRows; ++q) {
    float* row = states + q * per_row;
    const float* kept = segment.kept + static_cast<int64_t>(i + q) * n;
    for (int j = 0; j < n; j += V::kLanes) V::Store(row + j, V::Load(kept + j));
    for (int t = 0; t < segment.count; ++t, row += n) {
      const int64_t at = (segment.first + t) * head.stride;
      const Type sa = V::Set(head.sa[at + i + q]);
      const Type v = V::Set(head.v[at + i + q]);
      const float* w = segment.decay + t * n;
      for (int j = 0; j < n; j += V::kLanes) {
        Type s = V::Mul(V::Load(row + j), V::Load(w + j));
        s = V::Fma(sa, V::Load(head.b + at + j), s);
        s = V::Fma(v, V::Load(head.k + at + j), s);
        V::Store(row + n + j, s);
      }
    }
  }
  for (int t = segment.count - 1; t >= 0; --t) {
    const int64_t at = (segment.first + t) * head.stride;
    Type dy[kRows], v[kRows], sa[kRows], dv[kRows], dsa[kRows];
    for (int q = 0; q < kRows; ++q) {
      dy[q] = V::Set(backward.dy[at + i + q]);
      v[q] = V::Set(head.v[at + i + q]);
      sa[q] = V::Set(head.sa[at + i + q]);
      dv[q] = V::Zero();
      dsa[q] = V::Zero();
    }
    const int64_t table = static_cast<int64_t>(t) * n;
    for (int j = 0; j < n; j += V::kLanes) {
      const Type r = V::Load(head.r + at + j);
      const Type k = V::Load(head.k + at + j);
      const Type b = V::Load(head.b + at + j);
      Type dr = V::Load(segment.dr + table + j);
      Type dw = V::Load(segment.dw + table + j);
      Type dk = V::Load(segment.dk + table + j);
      Type db = V::Load(segment.db + table + j);
      for (int q = 0; q < kRows; ++q) {
        const float* before = states + q * per_row + table + j;
        const Type gradient = V::Fma(dy[q], r, V::Load(g + q * n + j));
        V::Store(g + q * n + j, gradient);
        dr = V::Fma(V::Load(before + n), dy[q], dr);
        dw = V::Fma(gradient, V::Load(before), dw);
        dk = V::Fma(gradient, v[q], dk);
        db = V::Fma(gradient, sa[q], db);
        dv[q] = V::Fma(gradient, k, dv[q]);
        dsa[q] = V::Fma(gradient, b, dsa[q]);
      }
      V::Store(segment.dr + table + j, dr);
      V::Store(segment.dw + table + j, dw);
      V::Store(segment.dk + table + j, dk);
      V::Store(segment.db + table + j, db);
    }
    for (int q = 0; q < kRows; ++q) {
      backward.dv[at + i + q] = V::Sum(dv[q]);
      dsa[q] = V::Set(V::Sum(dsa[q]));
    }
    const float* w = segment.decay + table;
    for (int j = 0; j < n; j += V::kLanes) {
      const Type a = V::Load(head.a + at + j);
      const Type decay = V::Load(w + j);
      Type da = V::Load(segment.da + table + j);
      for (int q = 0; q < kRows; ++q) {
        da = V::Fma(V::Load(states + q * per_row + table + j), dsa[q], da);
        V::Store(g + q * n + j, V::Fma(dsa[q], a, V::Mul(V::Load(g + q * n + j), decay)));
      }
      V::Store(segment.da + table + j, da);
    }
  }
}

template <class V>
inline void Wkv7BackwardVector(const Wkv7BackwardHead& backward) {
  constexpr int kRows = kWkv7BackwardRows;
  const Wkv7TrainingHead& head = backward.head;
  const int n = head.head_size;
  const int64_t table = static_cast<int64_t>(kWkv7CheckpointTokens) * n;
  float* g = head.scratch;
  float* decay = g + static_cast<int64_t>(n) * n;
  float* slope = decay + table;
  float* sums = slope + table;  // five tables
  float* states = sums + 5 * table;
  for (int i = 0; i < n * n; ++i) {
    g[i] = backward.d_final_state == nullptr ? 0.0f : backward.d_final_state[i];
  }
  const int segments = (head.tokens + kWkv7CheckpointTokens - 1) / kWkv7CheckpointTokens;
  for (int s = segments - 1; s >= 0; --s) {
    const int first = s * kWkv7CheckpointTokens;
    const int count =
        head.tokens - first < kWkv7CheckpointTokens ? head.tokens - first : kWkv7CheckpointTokens;
    Wkv7Decays<V>(head, first, count, decay, slope);
    for (int64_t i = 0; i < 5 * table; i += V::kLanes) V::Store(sums + i, V::Zero());
    const Wkv7Segment segment = {.first = first,
                                 .count = count,
                                 .kept = head.kept_states + static_cast<int64_t>(s) * n * n,
                                 .decay = decay,
                                 .dr = sums,
                                 .dw = sums + table,
                                 .dk = sums + 2 * table,
                                 .da = sums + 3 * table,
                                 .db = sums + 4 * table};
    for (int i = 0; i < n; i += kRows) {
      Wkv7BackwardRows<V, kRows>(backward, segment, i, states, g + static_cast<int64_t>(i) * n);
    }
    for (int t = 0; t < count; ++t) {
      const int64_t at = (first + t) * head.stride;
      for (int j = 0; j < n; j += V::kLanes) {
        const int64_t from = static_cast<int64_t>(t) * n + j;
        V::Store(backward.dr + at + j, V::Load(segment.dr + from));
        V::Store(backward.dw_raw + at + j,
                 V::Mul(V::Load(segment.dw + from), V::Load(slope + from)));
        V::Store(backward.dk + at + j, V::Load(segment.dk + from));
        V::Store(backward.da + at + j, V::Load(segment.da + from));
        V::Store(backward.db + at + j, V::Load(segment.db + from));
      }
    }
  }
  if (backward.d_initial_state != nullptr) {
    for (int i = 0; i < n * n; ++i) backward.d_initial_state[i] = g[i];
  }
}

}  // namespace dreamstate::kernels
