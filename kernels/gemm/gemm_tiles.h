// Matrix products by tiles, as AMX has them: eight registers of 16 rows of 64 bytes. A tile of
// activations is 16 rows by 64 bytes of k, a tile of weights 16 steps of k by 16 outputs (which is
// how half a panel lies in memory), a tile of sums 16 rows by 16 outputs. Two by two tiles of sums
// take a whole panel and 32 rows, so that each loaded tile is used twice.
//
// Edges need no tiles of other shapes: activations are zero behind the last input, so what a tile
// of weights reads behind the last step does not count (PackedMatrix::kSlack), as long as no weight
// is infinite or NaN in bf16 (who packs sees to that); rows behind the last are computed from
// whatever is there and not written.
//
// T are the tiles: those of the processor (gemm_amx.cc), or the same operations in plain code for
// tests. F::Finish(block, first_row, rows, outputs, sums, sums_stride, y) is FinishRows.
//   Begin, End                 before and after all others, on each thread
//   Zero<t>, Load<t>(base, stride), Store<t>(base, stride)
//   MultiplyInt8<c, a, b>      c += a (signed bytes) * b (unsigned), in whole numbers
//   MultiplyBf16<c, a, b>      c += a * b in floats, each tile of k summed in one fixed order
// int8 gives the same bits as every other instruction set. bf16 always runs by tiles, one row or
// many, so that a row has the same bits alone and among others.
#pragma once

#include "kernels/gemm/gemm_isa.h"
#include "kernels/gemm/int8_group.h"

namespace dreamstate::kernels {

inline constexpr int kTileRows = 16;
inline constexpr int kTileSteps = 16;
inline constexpr int kTilePanel = PackedMatrix::kPanel;
inline constexpr int64_t kTileStepBytes = kTilePanel * 4;
inline constexpr int kTileBlockRows = 2 * kTileRows;
// Bytes of a bf16 row of x in one tile.
inline constexpr int kTileXBytes = 64;
// How far ahead weights that are read once are asked for.
inline constexpr int64_t kTileAhead = 8192;

// Asks for the 16 steps of weights that come `kTileAhead` later.
template <class T>
inline void AskForWeights(const std::byte* w) {
  for (int64_t i = 0; i < kTileSteps * kTileStepBytes; i += 64) {
    __builtin_prefetch(w + kTileAhead + i, 0, 2);
  }
}

// One step of tiles: sums 0 and 1 are of the first 16 rows, 2 and 3 of the next.
template <class T, int kRowTiles, bool kInt8>
inline void MultiplyTiles(const std::byte* w, const std::byte* x, int64_t row_bytes) {
  T::template Load<6>(w, kTileStepBytes);
  T::template Load<7>(w + kTileStepBytes / 2, kTileStepBytes);
  T::template Load<4>(x, row_bytes);
  if constexpr (kRowTiles == 2) T::template Load<5>(x + kTileRows * row_bytes, row_bytes);
  if constexpr (kInt8) {
    T::template MultiplyInt8<0, 4, 6>();
    T::template MultiplyInt8<1, 4, 7>();
    if constexpr (kRowTiles == 2) {
      T::template MultiplyInt8<2, 5, 6>();
      T::template MultiplyInt8<3, 5, 7>();
    }
  } else {
    T::template MultiplyBf16<0, 4, 6>();
    T::template MultiplyBf16<1, 4, 7>();
    if constexpr (kRowTiles == 2) {
      T::template MultiplyBf16<2, 5, 6>();
      T::template MultiplyBf16<3, 5, 7>();
    }
  }
}

template <class T, int kRowTiles>
inline void ZeroSums() {
  T::template Zero<0>();
  T::template Zero<1>();
  if constexpr (kRowTiles == 2) {
    T::template Zero<2>();
    T::template Zero<3>();
  }
}

// sums: [kTileBlockRows][kTilePanel] of four bytes.
template <class T, int kRowTiles>
inline void StoreSums(std::byte* sums) {
  constexpr int64_t kRowBytes = kTilePanel * 4;
  T::template Store<0>(sums, kRowBytes);
  T::template Store<1>(sums + kRowBytes / 2, kRowBytes);
  if constexpr (kRowTiles == 2) {
    T::template Store<2>(sums + kTileRows * kRowBytes, kRowBytes);
    T::template Store<3>(sums + kTileRows * kRowBytes + kRowBytes / 2, kRowBytes);
  }
}

// The whole-number sums of one group of `steps` steps. w, x: behind the scales and the heads.
template <class T, int kRowTiles>
inline void Int8GroupTiles(const std::byte* w, const std::byte* x, int64_t row_bytes, int steps,
                           bool once, int* whole) {
  ZeroSums<T, kRowTiles>();
  for (int s = 0; s < steps; s += kTileSteps) {
    if (once) AskForWeights<T>(w + s * kTileStepBytes);
    MultiplyTiles<T, kRowTiles, true>(w + s * kTileStepBytes, x + int64_t{4} * s, row_bytes);
  }
  StoreSums<T, kRowTiles>(reinterpret_cast<std::byte*>(whole));
}

template <class T, class F>
inline void GemmInt8Tiles(const GemmBlock& block) {
  constexpr int64_t kScaleBytes = kTilePanel * 4;
  constexpr int64_t kGroupBytes = kScaleBytes + kInt8Steps * kTileStepBytes;
  alignas(64) int whole[kTileBlockRows * kTilePanel];
  alignas(64) float sums[kTileBlockRows * kTilePanel];
  const int steps = (block.inputs + 3) / 4;
  const bool once = block.rows <= kTileBlockRows;
  T::Begin();
  for (int p = 0; p < block.panels; ++p) {
    const int left = block.outputs - p * kTilePanel;
    for (int row = 0; row < block.rows; row += kTileBlockRows) {
      const int rows = block.rows - row < kTileBlockRows ? block.rows - row : kTileBlockRows;
      for (int s = 0; s < steps; s += kInt8Steps) {
        const int group = s / kInt8Steps;
        const std::byte* w = block.w + p * block.panel_bytes + group * kGroupBytes;
        const std::byte* x = block.x + group * block.x_block_bytes + row * block.row_bytes;
        const int count = steps - s < kInt8Steps ? steps - s : kInt8Steps;
        (rows > kTileRows ? Int8GroupTiles<T, 2>
                          : Int8GroupTiles<T, 1>)(w + kScaleBytes, x + sizeof(Int8RowHead),
                                                  block.row_bytes, count, once, whole);
        const auto* scales = reinterpret_cast<const float*>(w);
        for (int m = 0; m < rows; ++m) {
          const auto* head = reinterpret_cast<const Int8RowHead*>(x + m * block.row_bytes);
          const float scale = head->scale;
          const int start = head->start;
          for (int n = 0; n < kTilePanel; ++n) {
            const float scaled = static_cast<float>(whole[m * kTilePanel + n] + start) * scale;
            sums[m * kTilePanel + n] =
                __builtin_fmaf(scaled, scales[n], s == 0 ? 0.0f : sums[m * kTilePanel + n]);
          }
        }
      }
      F::Finish(block, row, rows, left < kTilePanel ? left : kTilePanel, sums, kTilePanel,
                block.y + p * kTilePanel);
    }
  }
  T::End();
}

template <class T, int kRowTiles>
inline void Bf16RowsTiles(const std::byte* w, const GemmBlock& block, int row, bool once,
                          float* sums) {
  const int steps = (block.inputs + 1) / 2;
  ZeroSums<T, kRowTiles>();
  for (int s = 0; s < steps; s += kTileSteps) {
    if (once) AskForWeights<T>(w + s * kTileStepBytes);
    MultiplyTiles<T, kRowTiles, false>(
        w + s * kTileStepBytes,
        block.x + s / kTileSteps * block.x_block_bytes + row * block.row_bytes, block.row_bytes);
  }
  StoreSums<T, kRowTiles>(reinterpret_cast<std::byte*>(sums));
}

template <class T, class F>
inline void GemmBf16Tiles(const GemmBlock& block) {
  alignas(64) float sums[kTileBlockRows * kTilePanel];
  const bool once = block.rows <= kTileBlockRows;
  T::Begin();
  for (int p = 0; p < block.panels; ++p) {
    const int left = block.outputs - p * kTilePanel;
    for (int row = 0; row < block.rows; row += kTileBlockRows) {
      const int rows = block.rows - row < kTileBlockRows ? block.rows - row : kTileBlockRows;
      (rows > kTileRows
           ? Bf16RowsTiles<T, 2>
           : Bf16RowsTiles<T, 1>)(block.w + p * block.panel_bytes, block, row, once, sums);
      F::Finish(block, row, rows, left < kTilePanel ? left : kTilePanel, sums, kTilePanel,
                block.y + p * kTilePanel);
    }
  }
  T::End();
}

}  // namespace dreamstate::kernels
