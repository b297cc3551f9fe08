// Which matrices of a backbone may be held in int8: chosen by what each kind costs in bits per byte
// of a text, so that a kind whose products int8 spoils stays bf16. Embeddings, small vectors and
// the low-rank matrices are never int8.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"
#include "kernels/gemm/gemm.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::rwkv {

using kernels::WeightFormat;

// All layers' matrices of one name together.
enum class MatrixKind { kReceptance, kKey, kValue, kOutput, kFfnKey, kFfnValue, kHead };
inline constexpr int kMatrixKinds = 7;

// As in a checkpoint: "att.receptance", …, "ffn.value", "head".
std::string_view MatrixKindName(MatrixKind kind);

struct FormatPolicy {
  std::array<bool, kMatrixKinds> int8 = {};  // by MatrixKind; the others stay bf16

  // Every kind: for a backbone that nobody measured. Groups of 128 with a scale each keep the error
  // of products at four times that of bf16 for normal inputs, eleven times with two channels fifty
  // times the others (kernels/gemm/gemm.h).
  static FormatPolicy Default();
  bool operator==(const FormatPolicy&) const = default;
};

// Bits per byte of one text, from the empty state.
struct FormatTable {
  int64_t bytes = 0;  // of the text
  double fp32 = 0;
  double bf16 = 0;
  double int8 = 0;  // by PolicyOf this table
  // With just that kind in int8 and all else bf16.
  std::array<double, kMatrixKinds> kinds = {};
};

// A kind is int8 unless it raises the loss over bf16 by more than this, in bits per byte: a tenth
// of what one more size of model usually brings, and above what chance makes of a text of a few
// thousand bytes.
inline constexpr double kMostInt8Rise = 0.002;

FormatPolicy PolicyOf(const FormatTable& table);

// Loads the backbone once for each kind and format, one after the other, and reads `tokens` (2 or
// more, in the vocabulary; tokens[0] is context), which stand for `bytes` of text. As Weights::Load
// and Engine::Forward for errors; INVALID_ARGUMENT for a loss that is not finite.
absl::StatusOr<FormatTable> MeasureFormats(const tensors::TensorSet& backbone,
                                           std::span<const int32_t> tokens, int64_t bytes,
                                           kernels::ThreadPool& pool);

}  // namespace dreamstate::rwkv
