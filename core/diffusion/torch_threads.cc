#include "core/diffusion/torch_threads.h"

#include <torch/torch.h>

namespace dreamstate::diffusion {

void SetTorchThreads(int threads) { at::set_num_threads(threads); }

}  // namespace dreamstate::diffusion
