// What each instruction set implements of WKV-7's training; wkv7_gradient.cc chooses. Includes
// nothing of the standard library that has code.
#pragma once

#include <cstdint>

#include "kernels/wkv7_gradient/wkv7_gradient.h"

namespace dreamstate::kernels {

// One head of one sequence. Token rows are `stride` floats apart.
struct Wkv7TrainingHead {
  int head_size;
  int tokens;
  int64_t stride;
  const float *r, *w_raw, *k, *v, *a, *b;
  const float* initial_state;  // [N value][N key] or null
  float* kept_states;          // [segments][N][N] or null
  float* sa;                   // [T] rows, or null
  float* scratch;              // Wkv7TrainingScratchFloats(head_size)
};

struct Wkv7ForwardHead {
  Wkv7TrainingHead head;
  float* y;
  float* final_state;  // or null
};

struct Wkv7BackwardHead {
  Wkv7TrainingHead head;
  const float* dy;
  const float* d_final_state;  // or null
  float *dr, *dw_raw, *dk, *dv, *da, *db;
  float* d_initial_state;  // or null
};

// Rows of a state that the backward pass takes through a segment at once: with 64 keys, their
// gradients and sums fill the registers of AVX-512. Divides every head size.
inline constexpr int kWkv7BackwardRows = 4;

// A state (or its gradient), seven tables of a segment, and the states of the rows at hand.
inline constexpr int64_t Wkv7TrainingScratchFloats(int n) {
  return static_cast<int64_t>(n) * n + int64_t{7} * kWkv7CheckpointTokens * n +
         int64_t{kWkv7BackwardRows} * (kWkv7CheckpointTokens + 1) * n;
}

void Wkv7ForwardOfReference(const Wkv7ForwardHead& head);
void Wkv7ForwardOfAvx2(const Wkv7ForwardHead& head);
void Wkv7ForwardOfAvx512(const Wkv7ForwardHead& head);
void Wkv7BackwardOfReference(const Wkv7BackwardHead& head);
void Wkv7BackwardOfAvx2(const Wkv7BackwardHead& head);
void Wkv7BackwardOfAvx512(const Wkv7BackwardHead& head);

}  // namespace dreamstate::kernels
