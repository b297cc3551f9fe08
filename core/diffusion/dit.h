// The diffusion transformer over the codes of states (spec section 3.5): one token a block of a
// head's matrix (state_codec.h), with registers, a label token and the text's tokens beside them.
// Predicts the clean code from a noised one. Internal to core/diffusion and core/training: shows
// torch types.
//
// G tokens of a code, K numbers of one, D width.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/dit_sizes.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::diffusion {

// Of B samples.
struct DitCondition {
  torch::Tensor label;        // [B] int64; DitSizes::labels = none
  torch::Tensor text;         // [B][T][activation_width]; undefined = no text for any
  torch::Tensor text_length;  // [B] int64, tokens of `text` that count; 0 = none
  // The code that helps most instead of the expected one, from noise alone (t = 0); needs
  // DitSizes::tuned.
  bool tuned = false;

  // Neither label nor text.
  static DitCondition None(const DitSizes& sizes, int64_t samples, torch::Device device);
};

// Parameters are one flat fp32 tensor, their gradients another: matrices that weights decay of
// come first, `decayed()` elements of them.
class Dit {
 public:
  // `sizes` pass CheckSizes; values zero.
  Dit(const DitSizes& sizes, torch::Device device);

  const DitSizes& sizes() const { return sizes_; }
  torch::Device device() const { return values_.device(); }
  const torch::Tensor& values() const { return values_; }
  const torch::Tensor& gradients() const { return gradients_; }
  int64_t decayed() const { return decayed_; }
  // Initial values; the random ones drawn from `seed`. A new model predicts zero, the mean state.
  void Initialise(uint64_t seed);
  void RequireGradients(bool wanted);
  // Takes the values of another of the same sizes, which may lack the mode `tuned`.
  void CopyFrom(const Dit& other);

  // z [B][G][K], t [B] in [0, 1] (1 = no noise) -> [B][G][K] fp32. Matrix products run in
  // `products` (bf16 or fp32).
  torch::Tensor Forward(const torch::Tensor& z, const torch::Tensor& t,
                        const DitCondition& condition, torch::ScalarType products) const;

  // The values `flat` (as values()) under the names dit.*: their data are put into `bytes`, bf16.
  std::vector<tensors::Tensor> Export(const torch::Tensor& flat,
                                      std::vector<std::string>* bytes) const;
  // From tensors dit.*; sizes come from their shapes. INVALID_ARGUMENT naming the tensor that is
  // missing or does not fit.
  static absl::StatusOr<std::unique_ptr<Dit>> Load(const tensors::TensorSet& set,
                                                   torch::Device device);

 private:
  struct Parameter {
    std::string name;
    std::vector<int64_t> shape;
    double deviation = 0;  // of its initial values; 0 = they are `constant`
    double constant = 0;
    bool decay = false;
  };
  static std::vector<Parameter> ParametersOf(const DitSizes& sizes);
  const torch::Tensor& Get(const std::string& name) const;
  torch::Tensor TextTokens(const DitCondition& condition, int64_t samples,
                           torch::ScalarType products) const;
  torch::Tensor Attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                          const std::string& prefix,
                          const std::optional<torch::Tensor>& mask) const;

  DitSizes sizes_;
  std::vector<Parameter> parameters_;
  std::vector<torch::Tensor> leaves_;  // as parameters_
  torch::Tensor values_, gradients_;
  int64_t decayed_ = 0;
};

}  // namespace dreamstate::diffusion
