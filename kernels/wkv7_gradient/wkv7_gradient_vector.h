// WKV-7's training for a vector type V. Lanes lie over keys. Given sa, the rows (values) of a state
// do not depend on each other, so the backward pass takes a few rows at a time through a whole
// segment: their gradient stays in registers, their sixteen states are recomputed from the kept one
// and stay in the first-level cache, and what is summed over rows (the gradients of r, w, k, a, b)
// lies in five small tables.
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

// kRows rows of the state, beginning with row i, through the tokens of a segment: the states before
// and after each into states[kRows][count + 1][kKeys].
template <class V, int kRows, int kKeys>
inline void Wkv7RecomputeRows(const Wkv7TrainingHead& head, const Wkv7Segment& segment, int i,
                              float* states) {
  using Type = typename V::Type;
  constexpr int kVectors = kKeys / V::kLanes;
  constexpr int64_t kPerRow = int64_t{kWkv7CheckpointTokens + 1} * kKeys;
  Type state[kRows][kVectors];
  for (int q = 0; q < kRows; ++q) {
    for (int c = 0; c < kVectors; ++c) {
      state[q][c] = V::Load(segment.kept + (i + q) * kKeys + c * V::kLanes);
      V::Store(states + q * kPerRow + c * V::kLanes, state[q][c]);
    }
  }
  for (int t = 0; t < segment.count; ++t) {
    const int64_t at = (segment.first + t) * head.stride;
#pragma GCC unroll 16
    for (int c = 0; c < kVectors; ++c) {
      const int j = c * V::kLanes;
      const Type decay = V::Load(segment.decay + t * kKeys + j);
      const Type k = V::Load(head.k + at + j), b = V::Load(head.b + at + j);
#pragma GCC unroll 4
      for (int q = 0; q < kRows; ++q) {
        Type s = V::Mul(state[q][c], decay);
        s = V::Fma(V::Set(head.sa[at + i + q]), b, s);
        state[q][c] = V::Fma(V::Set(head.v[at + i + q]), k, s);
        V::Store(states + q * kPerRow + (t + 1) * kKeys + j, state[q][c]);
      }
    }
  }
}

// The same rows from the segment's end to its start. d_rows: [kRows][kKeys], the gradient of the
// state after the segment, turned into that before it.
template <class V, int kRows, int kKeys>
inline void Wkv7BackwardRows(const Wkv7BackwardHead& backward, const Wkv7Segment& segment, int i,
                             const float* states, float* d_rows) {
  using Type = typename V::Type;
  constexpr int kVectors = kKeys / V::kLanes;
  constexpr int64_t kPerRow = int64_t{kWkv7CheckpointTokens + 1} * kKeys;
  const Wkv7TrainingHead& head = backward.head;
  Type d_state[kRows][kVectors];
  for (int q = 0; q < kRows; ++q) {
    for (int c = 0; c < kVectors; ++c) {
      d_state[q][c] = V::Load(d_rows + q * kKeys + c * V::kLanes);
    }
  }
  for (int t = segment.count - 1; t >= 0; --t) {
    const int64_t at = (segment.first + t) * head.stride;
    const int64_t table = int64_t{t} * kKeys;
    Type dv[kRows], dsa[kRows];
    for (int q = 0; q < kRows; ++q) dv[q] = dsa[q] = V::Zero();
#pragma GCC unroll 16
    for (int c = 0; c < kVectors; ++c) {
      const int j = c * V::kLanes;
      const Type r = V::Load(head.r + at + j);
      const Type k = V::Load(head.k + at + j);
      const Type b = V::Load(head.b + at + j);
      Type dr = V::Load(segment.dr + table + j);
      Type dw = V::Load(segment.dw + table + j);
      Type dk = V::Load(segment.dk + table + j);
      Type db = V::Load(segment.db + table + j);
#pragma GCC unroll 4
      for (int q = 0; q < kRows; ++q) {
        const float* before = states + q * kPerRow + table + j;
        const Type dy = V::Set(backward.dy[at + i + q]);
        const Type gradient = V::Fma(dy, r, d_state[q][c]);
        d_state[q][c] = gradient;
        dr = V::Fma(V::Load(before + kKeys), dy, dr);
        dw = V::Fma(gradient, V::Load(before), dw);
        dk = V::Fma(gradient, V::Set(head.v[at + i + q]), dk);
        db = V::Fma(gradient, V::Set(head.sa[at + i + q]), db);
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
#pragma GCC unroll 16
    for (int c = 0; c < kVectors; ++c) {
      const int j = c * V::kLanes;
      const Type a = V::Load(head.a + at + j);
      const Type decay = V::Load(segment.decay + table + j);
      Type da = V::Load(segment.da + table + j);
#pragma GCC unroll 4
      for (int q = 0; q < kRows; ++q) {
        da = V::Fma(V::Load(states + q * kPerRow + table + j), dsa[q], da);
        d_state[q][c] = V::Fma(dsa[q], a, V::Mul(d_state[q][c], decay));
      }
      V::Store(segment.da + table + j, da);
    }
  }
  for (int q = 0; q < kRows; ++q) {
    for (int c = 0; c < kVectors; ++c) {
      V::Store(d_rows + q * kKeys + c * V::kLanes, d_state[q][c]);
    }
  }
}

// All rows of a segment, by the length of a row. g: [keys][keys], the gradient of the state after
// it, turned into that before it.
template <class V, int kKeys = 16>
inline void Wkv7BackwardSegment(const Wkv7BackwardHead& backward, const Wkv7Segment& segment,
                                float* states, float* g) {
  if constexpr (kKeys < kWkv7TrainingMaxHeadSize) {
    if (backward.head.head_size > kKeys) {
      Wkv7BackwardSegment<V, kKeys + 16>(backward, segment, states, g);
      return;
    }
  }
  constexpr int kRows = kWkv7BackwardRows;
  for (int i = 0; i < kKeys; i += kRows) {
    Wkv7RecomputeRows<V, kRows, kKeys>(backward.head, segment, i, states);
    Wkv7BackwardRows<V, kRows, kKeys>(backward, segment, i, states, g + int64_t{i} * kKeys);
  }
}

template <class V>
inline void Wkv7BackwardVector(const Wkv7BackwardHead& backward) {
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
    Wkv7BackwardSegment<V>(backward, segment, states, g);
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
