// How large a state DiT (core/diffusion/dit.h) is, and how it is trained. No torch here.
#pragma once

#include "absl/status/status.h"

namespace dreamstate::diffusion {

struct DitSizes {
  int state_heads = 0;  // of the backbone's state, over all layers
  int blocks = 4;       // of a head that are tokens
  int token_size = 0;   // K
  int width = 192;      // D
  int layers = 5;
  int head_size = 32;  // of an attention head; divides width
  int mlp = 512;       // hidden width of SwiGLU
  int registers = 4;
  int labels = 0;
  int activation_width = 0;  // of a text's token
  int text_tokens = 8;       // that a text becomes
  bool tuned = false;        // has learned the mode `tuned` (core/diffusion/dit.h)

  int tokens() const { return state_heads * blocks; }  // G
};
// INVALID_ARGUMENT naming the size that is out of range.
absl::Status CheckSizes(const DitSizes& sizes);

// How often which noise level is trained: t = sigmoid of a normal variable, and sometimes 0, where
// sampling begins and where the network says E[x | condition].
struct FlowOptions {
  double noise_share = 0.1;  // samples at t = 0
  double time_mean = -0.8;
  double time_deviation = 0.8;
};

}  // namespace dreamstate::diffusion
