// How a flow is followed. No torch here.
#pragma once

namespace dreamstate::diffusion {

enum class Solver {
  kEuler,  // one pass of the network a step
  kHeun,   // two, but one in the last step; second order
};

}  // namespace dreamstate::diffusion
