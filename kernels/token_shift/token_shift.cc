#include "kernels/token_shift/token_shift.h"

#include <cstring>

#include "kernels/runtime/cpu.h"
#include "kernels/token_shift/token_shift_isa.h"

namespace dreamstate::kernels {
namespace {

using RowFunction = void (*)(const TokenShiftRow&);
constexpr RowFunction kByIsa[kIsaCount] = {
    TokenShiftRowOfReference,  // reference
    TokenShiftRowOfAvx2,       // avx2
    TokenShiftRowOfAvx512,     // avx512
    TokenShiftRowOfAvx512,     // avx512vnni
    TokenShiftRowOfAvx512,     // avx512bf16
    TokenShiftRowOfAvx512,     // amx
};

// Outputs that one piece of a parallel region should have; fewer in all run inline.
constexpr int64_t kPieceOutputs = 32 * 1024;

}  // namespace

void TokenShift(const TokenShiftBatch& batch, ThreadPool& pool) {
  const RowFunction row_function = kByIsa[static_cast<int>(ActiveIsa())];
  const int64_t width = batch.width;
  int64_t rows = 0;
  for (const int tokens : batch.tokens) rows += tokens;

  const auto shift_rows = [&](int64_t begin, int64_t end, int) {
    size_t sequence = 0;
    int64_t first = 0;
    for (int64_t row = begin; row < end; ++row) {
      while (row >= first + batch.tokens[sequence]) first += batch.tokens[sequence++];
      const float* current = batch.x + row * width;
      row_function({.width = batch.width,
                    .mix_count = static_cast<int>(batch.mixes.size()),
                    .previous = row == first ? batch.carried[sequence] : current - width,
                    .current = current,
                    .mixes = batch.mixes.data(),
                    .out = batch.out.data(),
                    .offset = row * width});
    }
  };
  const int64_t row_outputs = width * static_cast<int64_t>(batch.mixes.size()) + 1;
  pool.ParallelFor(rows, kPieceOutputs / row_outputs + 1, shift_rows);

  // Only now: until here the first row of each sequence may still be reading what it carried.
  int64_t end = 0;
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    end += batch.tokens[i];
    std::memcpy(batch.carried[i], batch.x + (end - 1) * width,
                static_cast<size_t>(width) * sizeof(float));
  }
}

}  // namespace dreamstate::kernels
