// Tiles of sums for 32 registers of 16 floats: up to 24 of them are sums (12 rows of a panel), two
// hold weights. Few rows take several panels at once, so that at least eight chains hide the
// latency of a multiply-add.
#pragma once

#include "kernels/gemm/gemm_vector.h"
#include "kernels/runtime/vector_avx512.h"

namespace dreamstate::kernels {

template <class Product>
struct Avx512Tiles : Product {
  static constexpr int kMaxRows = 12;
  static constexpr int kMostRowsOfSeveralPanels = 6;
  template <int kRows, int kPanels>
  static constexpr GemmTileCall<Avx512Tiles> kTile = {GemmTile<Product, kRows, 2, kPanels>, 2,
                                                      kPanels};
  static constexpr GemmTileCall<Avx512Tiles> kTiles[kMaxRows] = {
      kTile<1, 4>, kTile<2, 4>, kTile<3, 2>, kTile<4, 2>,  kTile<5, 2>,  kTile<6, 2>,
      kTile<7, 1>, kTile<8, 1>, kTile<9, 1>, kTile<10, 1>, kTile<11, 1>, kTile<12, 1>};
  static constexpr GemmTileCall<Avx512Tiles> kSinglePanelTiles[kMaxRows] = {
      kTile<1, 1>, kTile<2, 1>, kTile<3, 1>, kTile<4, 1>,  kTile<5, 1>,  kTile<6, 1>,
      kTile<7, 1>, kTile<8, 1>, kTile<9, 1>, kTile<10, 1>, kTile<11, 1>, kTile<12, 1>};
};

}  // namespace dreamstate::kernels
