// Tiles of sums for 16 registers of 8 floats: up to 12 of them are sums. Few rows take a whole
// panel (four vectors), more rows half of one.
#include "kernels/gemm/gemm_int8_vector.h"
#include "kernels/runtime/vector_avx2.h"

namespace dreamstate::kernels {
namespace {

template <class P, int kRows, int kVectors, int kPanels>
constexpr GemmTileCall<P> Tile() {
  return {GemmTile<P, kRows, kVectors, kPanels>, kVectors, kPanels, kVectors == 2 ? kGemmAhead : 0};
}

struct Float32Tiles : Float32Product<VectorAvx2> {
  using P = Float32Tiles;
  static constexpr int kMaxRows = 6;
  static constexpr int kMostRowsOfSeveralPanels = 1;
  static const GemmTileCall<P> kTiles[kMaxRows];
  static const GemmTileCall<P> kSinglePanelTiles[kMaxRows];
};
constinit const GemmTileCall<Float32Tiles> Float32Tiles::kTiles[] = {
    Tile<P, 1, 4, 2>(), Tile<P, 2, 4, 1>(), Tile<P, 3, 4, 1>(),
    Tile<P, 4, 2, 1>(), Tile<P, 5, 2, 1>(), Tile<P, 6, 2, 1>()};
constinit const GemmTileCall<Float32Tiles> Float32Tiles::kSinglePanelTiles[] = {
    Tile<P, 1, 4, 1>(), Tile<P, 2, 4, 1>(), Tile<P, 3, 4, 1>(),
    Tile<P, 4, 2, 1>(), Tile<P, 5, 2, 1>(), Tile<P, 6, 2, 1>()};

// Widening takes registers, too.
struct Bfloat16Tiles : WidenedBf16Product<VectorAvx2> {
  using P = Bfloat16Tiles;
  static constexpr int kMaxRows = 4;
  static constexpr int kMostRowsOfSeveralPanels = 1;
  static const GemmTileCall<P> kTiles[kMaxRows];
  static const GemmTileCall<P> kSinglePanelTiles[kMaxRows];
};
constinit const GemmTileCall<Bfloat16Tiles> Bfloat16Tiles::kTiles[] = {
    Tile<P, 1, 4, 2>(), Tile<P, 2, 4, 1>(), Tile<P, 3, 2, 1>(), Tile<P, 4, 2, 1>()};
constinit const GemmTileCall<Bfloat16Tiles> Bfloat16Tiles::kSinglePanelTiles[] = {
    Tile<P, 1, 4, 1>(), Tile<P, 2, 4, 1>(), Tile<P, 3, 2, 1>(), Tile<P, 4, 2, 1>()};

struct Int8Tiles : WidenedInt8Product<VectorAvx2> {
  using P = Int8Tiles;
  static constexpr int kMaxRows = 4;
  static constexpr int kMostRowsOfSeveralPanels = 1;
  static const GemmTileCall<P> kTiles[kMaxRows];
  static const GemmTileCall<P> kSinglePanelTiles[kMaxRows];
};
constinit const GemmTileCall<Int8Tiles> Int8Tiles::kTiles[] = {
    Tile<P, 1, 4, 2>(), Tile<P, 2, 4, 1>(), Tile<P, 3, 2, 1>(), Tile<P, 4, 2, 1>()};
constinit const GemmTileCall<Int8Tiles> Int8Tiles::kSinglePanelTiles[] = {
    Tile<P, 1, 4, 1>(), Tile<P, 2, 4, 1>(), Tile<P, 3, 2, 1>(), Tile<P, 4, 2, 1>()};

}  // namespace

constinit const GemmKernels kGemmAvx2 = {{
    {GemmBlockVector<Float32Tiles>, nullptr, 1, 4},
    {GemmBlockVector<Bfloat16Tiles>, RoundRowWidened<VectorAvx2>, 2, 8},
    {GemmBlockVector<Int8Tiles>, QuantizeRowWidened<VectorAvx2>, kInt8Group,
     Int8Tiles::kXBlockBytes, true},
}};

}  // namespace dreamstate::kernels
