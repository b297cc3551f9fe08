#include "kernels/gemm/gemm_avx512vnni.h"
#include "kernels/gemm/gemm_tiles.h"

namespace dreamstate::kernels {
namespace {

// The tiles of the processor. By hand, since the intrinsics of GCC take the number of a tile as
// text, and GCC 12 believes that _tile_loadconfig reads 8 of its 64 bytes.
struct AmxTiles {
  struct alignas(64) Config {
    unsigned char palette = 1;
    unsigned char start_row = 0;
    unsigned char reserved[14] = {};
    unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };

  // For every block anew: whoever else computes on this thread may configure tiles for itself, and
  // a thread that keeps none costs nothing more on a context switch.
  static void Begin() {
    static constexpr Config kConfig = {};
    asm volatile("ldtilecfg %0" : : "m"(kConfig));
  }
  static void End() { asm volatile("tilerelease" : : : "memory"); }
  template <int kTile>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static void Load(const std::byte* base, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(base), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void Store(std::byte* base, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(base), "r"(stride), "i"(kTile)
                 : "memory");
  }
  template <int kC, int kA, int kB>
  static void MultiplyInt8() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  static void MultiplyBf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

struct Finisher {
  static void Finish(const GemmBlock& block, int first_row, int rows, int outputs,
                     const float* sums, int sums_stride, float* y) {
    FinishRows<VectorAvx512>(block, first_row, rows, outputs, sums, sums_stride, y);
  }
};

// Few rows leave most of a tile empty; as int8 is exact, they may take vpdpbusd without any
// difference.
constexpr int kLeastTileRows = 8;

void MultiplyInt8(const GemmBlock& block) {
  if (block.rows < kLeastTileRows) {
    kQuadFormat.multiply(block);
  } else {
    GemmInt8Tiles<AmxTiles, Finisher>(block);
  }
}

// Blocks of 32 inputs, as one tile takes them.
void RoundRow(const float* x, int inputs, std::byte* rounded, int64_t stride) {
  using V = VectorAvx512;
  for (int k = 0; k < inputs; k += 2 * V::kLanes) {
    for (int half = 0; half < 2; ++half) {
      const int first = k + half * V::kLanes;
      const V::Mask lanes = V::FirstLanes(inputs > first ? inputs - first : 0);
      const __m512i high =
          _mm512_srli_epi32(_mm512_castps_si512(V::RoundToBf16(V::Load(x + first, lanes))), 16);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(rounded + half * 32),
                          _mm512_cvtepi32_epi16(high));
    }
    rounded += stride;
  }
}

}  // namespace

constinit const GemmKernels kGemmAmx = {{
    {GemmBlockVector<Avx512Tiles<Float32Product<VectorAvx512>>>, nullptr, 1, 4},
    {GemmBf16Tiles<AmxTiles, Finisher>, RoundRow, 32, kTileXBytes, true},
    {MultiplyInt8, kQuadFormat.convert_row, kQuadFormat.block_inputs, kQuadFormat.block_bytes,
     kQuadFormat.by_block},
}};

}  // namespace dreamstate::kernels
