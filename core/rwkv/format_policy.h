// Which matrices of a backbone may be held in int8: chosen by what each kind costs in bits per byte
// of a text, so that a kind whose products int8 spoils stays bf16. Embeddings, small vectors and
// the low-rank matrices are never int8.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
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
  // One letter for each kind in int8: r, k, v, o of time mix, K, V of channel mix, h for the head.
  std::string Letters() const;
  bool any() const { return std::find(int8.begin(), int8.end(), true) != int8.end(); }
  bool operator==(const FormatPolicy&) const = default;
};

// Bits per byte of one text, from the empty state.
struct FormatTable {
  int64_t bytes = 0;  // of the text
  double fp32 = 0;
  double bf16 = 0;
  double int8 = 0;  // by `policy`
  // With just that kind in int8 and all else bf16.
  std::array<double, kMatrixKinds> kinds = {};
  FormatPolicy policy;  // as ChooseKinds
};

// A kind is int8 unless it alone raises the loss over bf16 by more than this, in bits per byte: a
// tenth of what one more size of model usually brings, and above what chance makes of a text of a
// few thousand bytes.
inline constexpr double kMostInt8Rise = 0.002;
// What all of them together may raise it by: a fourth of that size.
inline constexpr double kMostInt8RiseTogether = 0.005;

// Chooses `table->policy` by `bf16` and `kinds`, and measures it: the kinds within kMostInt8Rise,
// without those that cost most, one after the other, until `measure`, the loss with just these in
// int8, is within kMostInt8RiseTogether. It may come to none at all; then int8 is of no use to this
// backbone, and `table->int8` is `bf16`. Errors are those of `measure`.
absl::Status ChooseKinds(const std::function<absl::StatusOr<double>(const FormatPolicy&)>& measure,
                         FormatTable* table);

// Loads the backbone once for each kind and format, one after the other, and reads `tokens` (2 or
// more, in the vocabulary; tokens[0] is context), which stand for `bytes` of text. As Weights::Load
// and Engine::Forward for errors; INVALID_ARGUMENT for a loss that is not finite.
absl::StatusOr<FormatTable> MeasureFormats(const tensors::TensorSet& backbone,
                                           std::span<const int32_t> tokens, int64_t bytes,
                                           kernels::ThreadPool& pool);

}  // namespace dreamstate::rwkv
