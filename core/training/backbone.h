// RWKV-7 in torch, for training (spec sections 1 and 3); the engine that serves is
// core/rwkv/engine.h, and tests tie the two together. Internal to core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"
#include "core/training/learner_options.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::training {

// States of B sequences.
struct BackboneState {
  torch::Tensor shift;  // [B][L][2][D]
  torch::Tensor wkv;    // [B][L][H][N value][N key]
  bool defined() const { return wkv.defined(); }
};

// One parameter of an official checkpoint (spec section 1.1).
struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  // Where its value lies in Backbone::values().
  int64_t begin = 0;
  int64_t elements = 0;
};

// Owns all parameters as one flat fp32 (or, for tests, fp64) tensor, and their gradients as
// another: whatever treats them alike (the optimiser, the sum over ranks, a checkpoint) is one
// operation. Parameters are ordered so that those of an optimiser group lie together
// (core/training/optimiser.h). Layer 0's v0, v1 and v2, which nothing reads, do not exist.
class Backbone {
 public:
  // `sizes` complete (CompleteSizes); values zero.
  Backbone(const BackboneSizes& sizes, torch::Device device, torch::ScalarType dtype,
           kernels::ThreadPool& pool);

  const BackboneSizes& sizes() const { return sizes_; }
  int64_t heads() const { return sizes_.width / sizes_.head_size; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const torch::Tensor& values() const { return values_; }
  const torch::Tensor& gradients() const { return gradients_; }
  // A parameter's part of values(), a leaf whose .grad() is its part of gradients().
  const torch::Tensor& value(const std::string& name) const;

  // The official initial values (spec section 3.1); the random ones drawn from `seed`.
  void Initialise(uint64_t seed);
  // From tensors of official names. INVALID_ARGUMENT naming the tensor that is missing, unknown or
  // of another shape.
  absl::Status Load(const tensors::TensorSet& set);
  // A copy under official names, bf16 or fp32.
  absl::StatusOr<tensors::TensorSet> Export(bool fp32) const;

  // Turns gradients on or off for all parameters.
  void RequireGradients(bool wanted);

  struct Result {
    torch::Tensor hidden;  // [B][T][D], the output of ln_out, in the products' type
    BackboneState final_state;
  };
  // tokens [B][T] int64; `initial` undefined = zero states. Matrix products run in `products`
  // (bf16, or the parameters' own type), everything else in the parameters' type.
  Result Forward(const torch::Tensor& tokens, const BackboneState& initial,
                 torch::ScalarType products) const;
  // hidden [M][D] -> logits [M][V], in the products' type.
  torch::Tensor Head(const torch::Tensor& hidden, torch::ScalarType products) const;

 private:
  // Of one layer, without "blocks.<layer>.".
  const torch::Tensor& Get(int layer, const char* name) const;
  torch::Tensor TimeMix(int layer, const torch::Tensor& x, const BackboneState& initial,
                        torch::ScalarType products, torch::Tensor* v_first, torch::Tensor* shift,
                        torch::Tensor* wkv) const;
  torch::Tensor ChannelMix(int layer, const torch::Tensor& x, const BackboneState& initial,
                           torch::ScalarType products, torch::Tensor* shift) const;

  BackboneSizes sizes_;
  kernels::ThreadPool& pool_;
  std::vector<Parameter> parameters_;
  std::vector<torch::Tensor> leaves_;  // as parameters_
  std::map<std::string, int> index_;
  torch::Tensor values_, gradients_;
};

// Fills in what is 0 by the trainer's formulas. INVALID_ARGUMENT naming the size that is wrong.
absl::StatusOr<BackboneSizes> CompleteSizes(const BackboneSizes& sizes);
// The sizes of a checkpoint.
absl::StatusOr<BackboneSizes> SizesOf(const tensors::TensorSet& set);

// All parameters of these complete sizes, one group of the optimiser after another.
std::vector<Parameter> ParametersOf(const BackboneSizes& sizes);

}  // namespace dreamstate::training
