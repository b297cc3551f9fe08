// What each instruction set implements of the matrix products; gemm.cc chooses and divides the
// work.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"

namespace dreamstate::kernels {

// Consecutive panels of one matrix times some rows.
struct GemmBlock {
  const std::byte* w;  // the first panel
  size_t panel_bytes;  // from one panel to the next
  int panels;
  int outputs;  // of these panels; the last one may be partly padding
  int inputs;
  const std::byte* x;     // fp32, or what convert_row made of it; the first row
  int64_t row_bytes;      // from one row of x to the next
  int64_t x_block_bytes;  // from one block of converted inputs to the next
  int rows;
  float* y;          // the first row, first output
  int64_t y_stride;  // in floats
  Epilogue epilogue;
};

// Rows of a block at most: a tile of sums fits on the stack, and the rows in a second-level cache
// for most widths.
inline constexpr int kGemmMaxRows = 96;

// The products of one weight format.
struct GemmFormat {
  void (*multiply)(const GemmBlock& block);
  // Converts `inputs` floats into the form that `multiply` reads, zero-padded to whole blocks, from
  // one block to the next `stride` bytes; null when it reads the floats themselves.
  void (*convert_row)(const float* x, int inputs, std::byte* converted, int64_t stride);
  // A converted row is blocks of `block_inputs` inputs, each block_bytes long: one behind the
  // other, or, when `by_block`, the first block of every row, then the second of every row, so that
  // what rows read at the same time lies side by side.
  int block_inputs;
  int block_bytes;
  bool by_block = false;
};

// The tables are constant-initialised: no code of a wide instruction set runs before it is chosen.
struct GemmKernels {
  GemmFormat formats[3];  // by WeightFormat
};

extern const GemmKernels kGemmReference;
extern const GemmKernels kGemmAvx2;
extern const GemmKernels kGemmAvx512;
extern const GemmKernels kGemmAvx512Vnni;
extern const GemmKernels kGemmAvx512Bf16;
extern const GemmKernels kGemmAmx;

}  // namespace dreamstate::kernels
