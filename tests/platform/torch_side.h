#ifndef DREAMSTATE_TESTS_PLATFORM_TORCH_SIDE_H_
#define DREAMSTATE_TESTS_PLATFORM_TORCH_SIDE_H_

// The half of the platform test that sees torch, and no Protocol Buffers.

namespace dreamstate::platform {

// Fits y = A x with a linear module by gradient descent and returns {loss before, loss after}.
struct Fit {
  double first_loss;
  double last_loss;
};
Fit FitLinearModule(int steps);

// Largest difference between autograd's gradient of sum((A B)^2) and the closed form 2 (A B) B^T.
double GradientError();

}  // namespace dreamstate::platform

#endif  // DREAMSTATE_TESTS_PLATFORM_TORCH_SIDE_H_
