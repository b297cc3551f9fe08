// Whether a state looks like those that a backbone makes (spec section 4, safety gate; design:
// science.md point 8). Three checks, each with a range on both sides that 99.8 % of real states
// pass: blurred states fail as noisy ones do.
//   norm           Frobenius norm of each matrix without its gauge
//   spectral_norm  largest singular value of each matrix without its gauge
//   energy         denoiser energy (StateGenerator::Energy)
// Of the matrices, the logarithm's distance from its median is measured in its standard deviations,
// and the largest over all matrices counts. Immutable, thread-safe. No torch here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/state.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::diffusion {

struct SafetyCheck {
  std::string name;
  bool passed = false;
  // What was found and its range; of matrices the one furthest outside.
  double value = 0, least = 0, most = 0;
  int layer = -1, head = -1;  // of a matrix
};

struct SafetyVerdict {
  bool passed = true;
  std::vector<SafetyCheck> checks;
};

class SafetyGate {
 public:
  // `wkv` [count][L][H][N value][N key] of real states that the DiT was not trained on, with the
  // energy of each. INVALID_ARGUMENT for fewer than 20 states, or values that are not finite.
  static absl::StatusOr<SafetyGate> Fit(const state::Shape& shape, std::span<const float> wkv,
                                        std::span<const double> energy);
  // Tensors safety.* as ToTensors gives them. INVALID_ARGUMENT naming the one that does not fit.
  static absl::StatusOr<SafetyGate> Load(const tensors::TensorSet& set, const state::Shape& shape);
  // fp32; they point into this gate.
  std::vector<tensors::Tensor> ToTensors() const;

  // A state of the gate's shape, finite.
  SafetyVerdict Check(const state::State& state, double energy) const;

 private:
  explicit SafetyGate(const state::Shape& shape) : shape_(shape) {}

  state::Shape shape_;
  std::vector<float> norm_;      // [L][H][2]: least, most
  std::vector<float> spectral_;  // [L][H][2]
  std::vector<float> energy_;    // [2]
};

}  // namespace dreamstate::diffusion
