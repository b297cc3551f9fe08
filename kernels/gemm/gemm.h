// Matrix products with packed weights: y[m][n] = sum over k of x[m][k] * w[n][k].
//
// The same row gives the same bits whatever M is, whichever rows stand beside it and however many
// threads run: outputs lie across lanes and every output sums over k in one fixed order (fp32: one
// fused multiply-add a k, ascending; bf16: one pair of k at a time, ascending, both factors rounded
// to bf16, sums in fp32; int8: whole numbers within a group of k, then one fused multiply-add a
// group, ascending). Across instruction sets results of fp32 and bf16 agree to rounding only; those
// of int8 are equal to the bit before the epilogue. Not for training. Thread-safe for distinct
// outputs. No allocation except in Pack.
//
// int8: weights and activations are q * scale with q in [-127, 127], symmetric, one scale for each
// group of kInt8Group inputs of each output or row; the scales of activations are found for each
// row as it comes. Groups and not whole rows, because activations have heavy tails: one input fifty
// times the others costs its own group its precision and spares the rest. Measured rms error of
// random products (K = 768) by the size of a group, in percent of the rms result:
//   inputs                     whole row   256    128     32   (bf16)
//   normal                          1.11  0.98   0.92   0.76   (0.24)
//   Student t, 3 degrees            2.69  1.84   1.52   1.01
//   two channels fifty times        5.64  3.72   2.64   1.41
//   squared ReLU of normal          1.51  1.24   1.08   0.82
// Smaller groups cost more than they bring: 128 reads 3 % more than the weights alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/runtime/aligned.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

enum class WeightFormat { kFloat32, kBfloat16, kInt8 };

// Inputs that share a scale: 32 steps of four, and few enough that the sum of a group is exact as a
// float (128 * 127 * 127 < 2^24).
inline constexpr int kInt8Group = 128;

// Weights [N outputs][K inputs] in panels of kPanel outputs: fp32 as [panel][k][kPanel], bf16 as
// [panel][k / 2][kPanel][2] (the pair is what vdpbf16ps and AMX multiply), int8 as
// [panel][group]{fp32 scale [kPanel], q + 128 as [k / 4][kPanel][4]} (the four are what vpdpbusd
// and AMX multiply, one of the two factors unsigned). The last panel is padded with zeros, and so
// is K to a multiple of 1, 2 or 4. One layout for every instruction set. Behind the end kSlack
// bytes may be read: a tile of AMX takes 16 steps whether the panel has them or not. Movable;
// immutable once packed, so any number of threads may read it.
class PackedMatrix {
 public:
  static constexpr int kPanel = 32;
  static constexpr size_t kSlack = 16 * kPanel * 4;

  PackedMatrix() = default;
  // `weights` are fp32 row-major: [outputs][inputs], or [inputs][outputs] when `transposed`
  // (RWKV-7's low-rank matrices). In memory of `arena`, which then outlives the matrix, or of its
  // own where that is null or full.
  static PackedMatrix Pack(const float* weights, int outputs, int inputs, bool transposed,
                           WeightFormat format, Arena* arena = nullptr);

  int outputs() const { return outputs_; }
  int inputs() const { return inputs_; }
  int panels() const { return (outputs_ + kPanel - 1) / kPanel; }
  WeightFormat format() const { return format_; }
  size_t bytes() const { return bytes_; }
  const std::byte* data() const { return data_; }

 private:
  AlignedBuffer<std::byte> own_;  // null when the data is an arena's
  const std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  int outputs_ = 0;
  int inputs_ = 0;
  WeightFormat format_ = WeightFormat::kFloat32;
};

// What happens to each output before it is written.
enum class Epilogue {
  kNone,
  kAdd,          // y += result
  kSquaredRelu,  // y = max(result, 0)^2
  kTanh,
  kSigmoid,
};

struct GemmTask {
  const PackedMatrix* w;
  const float* x;  // [rows][x_stride], x_stride >= inputs
  int64_t x_stride;
  float* y;  // [rows][y_stride], y_stride >= outputs; must not overlap any x of the same call
  int64_t y_stride;
  int rows;  // >= 0
  Epilogue epilogue = Epilogue::kNone;
};

// Scratch that a product of bf16 or int8 needs for its activations in that format.
size_t GemmScratchBytes(int rows, int inputs);

// Runs all tasks as one parallel region: products that do not depend on each other belong in one
// call. `scratch` holds at least the sum of GemmScratchBytes(rows, inputs) over the tasks that are
// bf16 or int8, aligned to kAlignment; tasks with the same x, rows, inputs and format share a
// conversion.
void Gemm(std::span<const GemmTask> tasks, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace dreamstate::kernels
