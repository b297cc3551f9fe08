// Sizes of an RWKV-7 backbone, read from tensor shapes, never from formulas.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::rwkv {

// L layers, D width, H heads, N head size, V vocabulary, F ffn width, R ranks. A plain value.
struct Config {
  int layers = 0;
  int width = 0;
  int heads = 0;
  int head_size = 0;
  int vocab = 0;
  int ffn_width = 0;
  int rank_decay = 0;
  int rank_iclr = 0;
  int rank_value = 0;  // 0 with one layer
  int rank_gate = 0;

  // Elements of one state's parts: shift [L][2][D], wkv [L][H][N][N].
  int64_t shift_elements() const { return int64_t{layers} * 2 * width; }
  int64_t wkv_elements() const { return int64_t{layers} * heads * head_size * head_size; }
  int64_t state_bytes() const {
    return (shift_elements() + wkv_elements()) * int64_t{sizeof(float)};
  }

  friend bool operator==(const Config&, const Config&) = default;

  // From tensors with official names. INVALID_ARGUMENT naming the tensor at fault, expected and
  // found.
  static absl::StatusOr<Config> FromTensors(const tensors::TensorSet& set);
};

}  // namespace dreamstate::rwkv
