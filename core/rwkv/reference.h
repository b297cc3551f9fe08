// The forward pass as the paper writes it, by plain loops in double: the judge of the fast engine,
// one token after another. Slow; for tests and for checking an imported checkpoint. Thread-safe
// once loaded.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rwkv/config.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::rwkv {

class ReferenceEngine {
 public:
  // Errors as Weights::Load, of which it is the double-precision twin.
  static absl::StatusOr<ReferenceEngine> Load(const tensors::TensorSet& set);

  // Reads `tokens` (each in [0, V)) from a state in the canonical layout (shift [L][2][D], wkv
  // [L][H][N value][N key]), which it advances. Returns the logits after each token, [tokens][V].
  std::vector<double> Forward(std::span<const int32_t> tokens, std::span<double> shift,
                              std::span<double> wkv) const;

  const Config& config() const { return config_; }

 private:
  const double* At(const std::string& name) const { return tensors_.at(name).data(); }
  void TimeMix(int layer, std::vector<double>& x, std::vector<double>& v_first, double* shift,
               double* wkv) const;
  void ChannelMix(int layer, std::vector<double>& x, double* shift) const;

  Config config_;
  std::map<std::string, std::vector<double>> tensors_;
};

}  // namespace dreamstate::rwkv
