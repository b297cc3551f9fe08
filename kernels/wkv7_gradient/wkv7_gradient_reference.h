// WKV-7 forward and backward by plain loops, in float or double, keeping every state: what the fast
// kernels are tested against.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace dreamstate::kernels {

// One head of one sequence; token rows are `stride` elements apart, states [N value][N key].
template <typename T>
struct Wkv7ReferenceHead {
  int head_size;
  int tokens;
  int64_t stride;
  const T *r, *w_raw, *k, *v, *a, *b;
  const T* initial_state;  // or null
};

template <typename T>
inline T Wkv7Sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}
inline constexpr double kWkv7DecayScale = -0.60653065971263342360;  // -exp(-1/2)

// states: [T + 1][N][N], filled in; y: [T] rows.
template <typename T>
void Wkv7ReferenceForward(const Wkv7ReferenceHead<T>& in, std::vector<T>* states, T* y) {
  const int n = in.head_size;
  const int64_t size = static_cast<int64_t>(n) * n;
  states->assign((in.tokens + 1) * size, T(0));
  if (in.initial_state != nullptr) {
    for (int64_t i = 0; i < size; ++i) (*states)[i] = in.initial_state[i];
  }
  for (int t = 0; t < in.tokens; ++t) {
    const int64_t at = t * in.stride;
    const T* before = states->data() + t * size;
    T* after = states->data() + (t + 1) * size;
    for (int i = 0; i < n; ++i) {
      T sa = T(0);
      for (int j = 0; j < n; ++j) sa += before[i * n + j] * in.a[at + j];
      T sum = T(0);
      for (int j = 0; j < n; ++j) {
        const T decay = std::exp(T(kWkv7DecayScale) * Wkv7Sigmoid(in.w_raw[at + j]));
        const T s = before[i * n + j] * decay + sa * in.b[at + j] + in.v[at + i] * in.k[at + j];
        after[i * n + j] = s;
        sum += s * in.r[at + j];
      }
      y[at + i] = sum;
    }
  }
}

template <typename T>
struct Wkv7ReferenceGradients {
  T *r, *w_raw, *k, *v, *a, *b;  // [T] rows, `stride` apart
  T* initial_state;              // [N][N]
};

template <typename T>
void Wkv7ReferenceBackward(const Wkv7ReferenceHead<T>& in, const std::vector<T>& states,
                           const T* dy, const T* d_final_state,
                           const Wkv7ReferenceGradients<T>& out) {
  const int n = in.head_size;
  const int64_t size = static_cast<int64_t>(n) * n;
  std::vector<T> g(size, T(0)), sa(n), dsa(n);
  if (d_final_state != nullptr) g.assign(d_final_state, d_final_state + size);
  for (int t = in.tokens - 1; t >= 0; --t) {
    const int64_t at = t * in.stride;
    const T* before = states.data() + t * size;
    const T* after = states.data() + (t + 1) * size;
    for (int i = 0; i < n; ++i) {
      sa[i] = T(0);
      for (int j = 0; j < n; ++j) {
        sa[i] += before[i * n + j] * in.a[at + j];
        g[i * n + j] += dy[at + i] * in.r[at + j];
      }
      dsa[i] = out.v[at + i] = T(0);
      for (int j = 0; j < n; ++j) {
        dsa[i] += g[i * n + j] * in.b[at + j];
        out.v[at + i] += g[i * n + j] * in.k[at + j];
      }
    }
    for (int j = 0; j < n; ++j) {
      const T sigmoid = Wkv7Sigmoid(in.w_raw[at + j]);
      const T decay = std::exp(T(kWkv7DecayScale) * sigmoid);
      T dr = T(0), dw = T(0), dk = T(0), da = T(0), db = T(0);
      for (int i = 0; i < n; ++i) {
        dr += after[i * n + j] * dy[at + i];
        dw += g[i * n + j] * before[i * n + j];
        dk += g[i * n + j] * in.v[at + i];
        db += g[i * n + j] * sa[i];
        da += before[i * n + j] * dsa[i];
      }
      out.r[at + j] = dr;
      out.w_raw[at + j] = dw * decay * T(kWkv7DecayScale) * sigmoid * (T(1) - sigmoid);
      out.k[at + j] = dk;
      out.a[at + j] = da;
      out.b[at + j] = db;
      for (int i = 0; i < n; ++i) g[i * n + j] = g[i * n + j] * decay + dsa[i] * in.a[at + j];
    }
  }
  if (out.initial_state != nullptr) {
    for (int64_t i = 0; i < size; ++i) out.initial_state[i] = g[i];
  }
}

}  // namespace dreamstate::kernels
