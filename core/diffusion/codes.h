// Codes as states where torch follows (core/diffusion/state_codec.h decodes memory). Internal to
// core/diffusion and core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include "core/diffusion/state_codec.h"

namespace dreamstate::diffusion {

class CodeDecoder {
 public:
  // Keeps tensors on `device` that may share `codec`'s memory: it outlives this.
  CodeDecoder(const StateCodec& codec, torch::Device device);

  // code [B][G][K] -> wkv [B][L][H][N value][N key]; gradients pass.
  torch::Tensor Decode(const torch::Tensor& code) const;

 private:
  state::Shape shape_;
  torch::Tensor mean_, values_, keys_, scale_;
};

}  // namespace dreamstate::diffusion
