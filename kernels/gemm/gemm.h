// Matrix products with packed weights: y[m][n] = sum over k of x[m][k] * w[n][k].
//
// The same row gives the same bits whatever M is, whichever rows stand beside it and however many
// threads run: outputs lie across lanes and every output sums over k in one fixed order (fp32: one
// fused multiply-add a k, ascending; bf16: one pair of k at a time, ascending, both factors rounded
// to bf16, sums in fp32). Across instruction sets results agree to rounding only. Not for training
// and not for int8 (a sibling when it comes). Thread-safe for distinct outputs. No allocation
// except in Pack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/runtime/aligned.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

enum class WeightFormat { kFloat32, kBfloat16 };

// Weights [N outputs][K inputs] in panels of kPanel outputs: fp32 as [panel][k][kPanel], bf16 as
// [panel][k / 2][kPanel][2] (the pair is what vdpbf16ps and AMX multiply). The last panel and an
// odd K are padded with zeros. One layout for every instruction set. Movable; immutable once
// packed, so any number of threads may read it.
class PackedMatrix {
 public:
  static constexpr int kPanel = 32;

  PackedMatrix() = default;
  // `weights` are fp32 row-major: [outputs][inputs], or [inputs][outputs] when `transposed`
  // (RWKV-7's low-rank matrices).
  static PackedMatrix Pack(const float* weights, int outputs, int inputs, bool transposed,
                           WeightFormat format);

  int outputs() const { return outputs_; }
  int inputs() const { return inputs_; }
  int panels() const { return (outputs_ + kPanel - 1) / kPanel; }
  WeightFormat format() const { return format_; }
  size_t bytes() const { return bytes_; }
  const std::byte* data() const { return data_.get(); }

 private:
  AlignedBuffer<std::byte> data_;
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

// Scratch that bf16 products need for activations rounded to bf16: at least GemmScratchBytes of the
// tasks of one call.
size_t GemmScratchBytes(int rows, int inputs);

// Runs all tasks as one parallel region: products that do not depend on each other belong in one
// call. `scratch` holds at least the sum of GemmScratchBytes(rows, inputs) over the tasks that are
// bf16, aligned to kAlignment; tasks with the same x, rows and inputs may share a conversion.
void Gemm(std::span<const GemmTask> tasks, std::span<std::byte> scratch, ThreadPool& pool);

}  // namespace dreamstate::kernels
