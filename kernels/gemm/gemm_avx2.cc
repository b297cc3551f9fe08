// Tiles of sums for 16 registers of 8 floats: up to 12 of them are sums. Up to three rows take a
// whole panel (four vectors), more rows half of one.
#include "kernels/gemm/gemm_vector.h"
#include "kernels/runtime/vector_avx2.h"

namespace dreamstate::kernels {
namespace {

template <class Product>
struct Avx2Tiles : Product {
  static constexpr int kMaxRows = 6;
  static constexpr int kMostRowsOfSeveralPanels = 1;
  template <int kRows, int kVectors, int kPanels>
  static constexpr GemmTileCall<Avx2Tiles> kTile = {GemmTile<Product, kRows, kVectors, kPanels>,
                                                    kVectors, kPanels};
  static constexpr GemmTileCall<Avx2Tiles> kTiles[kMaxRows] = {kTile<1, 4, 2>, kTile<2, 4, 1>,
                                                               kTile<3, 4, 1>, kTile<4, 2, 1>,
                                                               kTile<5, 2, 1>, kTile<6, 2, 1>};
  static constexpr GemmTileCall<Avx2Tiles> kSinglePanelTiles[kMaxRows] = {
      kTile<1, 4, 1>, kTile<2, 4, 1>, kTile<3, 4, 1>,
      kTile<4, 2, 1>, kTile<5, 2, 1>, kTile<6, 2, 1>};
};

}  // namespace

const GemmKernels kGemmAvx2 = {
    .float32 = GemmBlockVector<Avx2Tiles<Float32Product<VectorAvx2>>>,
    .bfloat16 = GemmBlockVector<Avx2Tiles<WidenedBf16Product<VectorAvx2>>>,
    .round_row = RoundRowWidened<VectorAvx2>,
    .rounded_bytes = 4,
};

}  // namespace dreamstate::kernels
