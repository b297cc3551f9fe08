// The coordinates in which states are modelled (spec sections 3.1 and 3.4; design: science.md
// points 4 and 5). Of each layer and head's matrix S [N value][N key]:
//   1. the gauge goes: P S with P = I - 11^T / N, for S + 1u^T gives the same outputs as S, ever;
//   2. the training mean is subtracted;
//   3. both sides are rotated onto the eigenvectors of E[X X^T] and E[X^T X], strongest first;
//   4. the result is cut into four blocks [N/2][N/2], by the strong and weak half of each side, and
//      each block is divided by its root mean square.
// A block is a token: Decode(Encode(S)) is P S to rounding when no block is left out. The
// token-shift vectors are not modelled: decoded states have the training states' mean ones.
//
// Everything is fitted on training states only. Immutable, thread-safe. No torch type is shown.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/state.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::diffusion {

// Blocks of a head, strongest first: (strong, strong), (strong, weak), (weak, strong), (weak, weak)
// of (value, key).
inline constexpr int kBlocksOfAHead = 4;

class StateCodec {
 public:
  // `wkv` [count][L][H][N value][N key] and `shift` [count][L][2][D] of training states after the
  // separator. `blocks` = how many of a head's blocks are tokens, 1 to 4; those left out decode to
  // the mean. INVALID_ARGUMENT for fewer than two states, an odd head size, values that are not
  // finite, or sizes that do not fit.
  static absl::StatusOr<StateCodec> Fit(const state::Shape& shape, std::span<const float> wkv,
                                        std::span<const float> shift, int blocks = kBlocksOfAHead);

  // Tensors codec.* as ToTensors gives them; INVALID_ARGUMENT naming the tensor that is missing or
  // does not fit.
  static absl::StatusOr<StateCodec> Load(const tensors::TensorSet& set);
  // fp32; they point into this codec.
  std::vector<tensors::Tensor> ToTensors() const;

  const state::Shape& shape() const { return shape_; }
  int blocks() const { return blocks_; }
  int tokens() const { return shape_.layers * shape_.heads * blocks_; }
  int token_size() const { return shape_.head_size / 2 * (shape_.head_size / 2); }
  int64_t code_elements() const { return int64_t{tokens()} * token_size(); }

  // wkv [count][L][H][N][N] -> code [count][L][H][blocks][N/2 value][N/2 key].
  void Encode(std::span<const float> wkv, std::span<float> code) const;
  void Decode(std::span<const float> code, std::span<float> wkv) const;
  // One code as a state with the mean shift vectors.
  state::State DecodeState(std::span<const float> code) const;
  // The mean shift vectors [L][2][D].
  std::span<const float> shift() const { return shift_; }

  friend class CodeDecoder;

 private:
  StateCodec(const state::Shape& shape, int blocks);

  state::Shape shape_;
  int blocks_;
  std::vector<float> mean_;    // [L][H][N][N], without the gauge
  std::vector<float> values_;  // [L][H][N][N]: columns are the value side's eigenvectors
  std::vector<float> keys_;    // [L][H][N][N]: of the key side
  std::vector<float> scale_;   // [L][H][blocks]: root mean square of a block
  std::vector<float> shift_;   // [L][2][D]
};

}  // namespace dreamstate::diffusion
