// The immutable, packed weights of a backbone on the CPU. Shared by everything that uses them;
// freed when the last lets go.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/stopping.h"
#include "core/rwkv/config.h"
#include "core/rwkv/format_policy.h"
#include "core/tensors/tensor_set.h"
#include "kernels/gemm/gemm.h"

namespace dreamstate::rwkv {

// "fp32", "bf16", "int8".
std::string_view WeightFormatName(WeightFormat format);
// INVALID_ARGUMENT naming the known formats.
absl::StatusOr<WeightFormat> ParseWeightFormat(std::string_view name);

using Vector = kernels::AlignedBuffer<float>;

struct TimeMixWeights {
  Vector ln_weight, ln_bias;                             // ln1 [D]
  Vector x_r, x_w, x_k, x_v, x_a, x_g;                   // [D]
  Vector w0, a0, v0, k_k, k_a, r_k;                      // [D]; v0 null in layer 0
  Vector ln_x_weight, ln_x_bias;                         // [D]
  kernels::PackedMatrix receptance, key, value, output;  // [D][D]
  kernels::PackedMatrix w1, a1, v1, g1;                  // D -> R, R
  kernels::PackedMatrix w2, a2, v2, g2;                  // R -> D
};

struct ChannelMixWeights {
  Vector ln_weight, ln_bias;    // ln2 [D]
  Vector x_k;                   // [D]
  kernels::PackedMatrix key;    // D -> F
  kernels::PackedMatrix value;  // F -> D
};

struct LayerWeights {
  TimeMixWeights time_mix;
  ChannelMixWeights channel_mix;
};

struct Weights {
  Config config;
  // Of the matrices that `int8` names int8 where this is int8, and bf16 for the others; else of
  // all.
  WeightFormat format;
  // Which are int8; none where `format` is another.
  FormatPolicy policy;
  // SHA-256 fingerprint of the tensors it was made from (tensors::Fingerprint).
  std::string fingerprint;
  // LayerNorm of ln0 already applied; [V][D] as stored: fp32 in format fp32, else bf16.
  kernels::AlignedBuffer<float> embedding_f32;
  kernels::AlignedBuffer<uint16_t> embedding_bf16;
  // Holds the matrices below, in the order in which a step reads them.
  std::unique_ptr<kernels::Arena> arena;
  std::vector<LayerWeights> layers;
  Vector ln_out_weight, ln_out_bias;  // [D]
  kernels::PackedMatrix head;         // D -> V
  // Bytes of memory held, and bytes that one decode step of one sequence reads.
  size_t bytes = 0;
  size_t step_bytes = 0;
  // How many matrices are held in each format, by WeightFormat.
  std::array<int, 3> matrices = {};

  // Checks every tensor's name, dtype and shape (missing, extra and non-finite ones included), and
  // that what is packed as bf16 is finite there, then packs. INVALID_ARGUMENT naming tensor,
  // expected and found; RESOURCE_EXHAUSTED when memory does not suffice; CANCELLED when it is told
  // to stop. `policy` says which matrices are int8 in format int8.
  static absl::StatusOr<std::shared_ptr<const Weights>> Load(
      const tensors::TensorSet& set, WeightFormat format,
      const FormatPolicy& policy = FormatPolicy::Default(), const Stopping& stopping = {});
};

}  // namespace dreamstate::rwkv
