// How many threads torch's operations use. No torch type is shown.
#pragma once

namespace dreamstate::diffusion {

// For operations that the calling thread starts from now on. `threads` >= 1.
void SetTorchThreads(int threads);

}  // namespace dreamstate::diffusion
