// Matrix products for a product P: a vector type with what one step along k does to a vector of
// sums.
//
// Every weight format has 4 bytes an output a step (one fp32 weight, two bf16 or four int8), so a
// step of a panel is kGemmStepBytes whatever P. Each output is one chain of steps from 0,
// ascending; how many rows, panels or steps a tile takes together changes which chains run side by
// side and nothing inside one, which is why a row has the same bits alone and among others.
#pragma once

#include "kernels/activation/vector_math.h"
#include "kernels/gemm/gemm_isa.h"
#include "kernels/runtime/vector_loop.h"

namespace dreamstate::kernels {

inline constexpr int kGemmPanel = 32;
inline constexpr int kGemmStepBytes = kGemmPanel * 4;
// How far ahead a tile that reads one panel once asks for its weights. Tiles of several panels have
// as many streams, which the processor follows by itself.
inline constexpr int64_t kGemmAhead = 8192;

// What P has:
//   Vector                     the vector type
//   kStepInputs                inputs a step
//   kStepXBytes                bytes of a row of x a step
//   kBlockSteps                steps after which the next rows take their turn
//   kBlockAhead                how far ahead the last rows of a block ask for weights
//   kMostSteps                 steps of one call of a tile at most
//   WeightOffset(s), XOffset(block, s)  bytes before step s, a multiple of kBlockSteps or
//   kMostSteps kWeightHead, kXHead        bytes in front of the steps of a call Sum, Begin, End
//   what a tile sums in, how it begins and how it reaches `sums` kParts instructions a step and
//   vector of sums, taken one after the other Factor, LoadX<part>(p)     a row's inputs of one part
//   of a step in every lane Weight, LoadWeight<part>(p)  the weights of one part of a step of
//   kLanes outputs Multiply(w, x, sum)        sum after the part

// One part of a step, for all sums of a tile.
template <class P, int kPart, int kRows, int kVectors, int kPanels>
inline void GemmPart(const std::byte* w, size_t panel_bytes, const std::byte* x, int64_t row_bytes,
                     typename P::Sum (&sums)[kRows][kPanels][kVectors]) {
  typename P::Weight weights[kPanels][kVectors];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      weights[p][i] =
          P::template LoadWeight<kPart>(w + p * panel_bytes + i * P::Vector::kLanes * 4);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    const typename P::Factor factor = P::template LoadX<kPart>(x + m * row_bytes);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i)
        sums[m][p][i] = P::Multiply(weights[p][i], factor, sums[m][p][i]);
    }
  }
}

// Sums of kRows rows by kPanels panels by kVectors vectors of each panel, over `steps` steps.
// sums: [kRows][sums_stride], each panel's kGemmPanel after the one before; continued from what
// they hold unless `fresh`. Asks for the weights `ahead` bytes on while it multiplies (0 asks for
// what it reads anyway).
template <class P, int kRows, int kVectors, int kPanels>
inline void GemmTile(const std::byte* w, size_t panel_bytes, const std::byte* x, int64_t row_bytes,
                     int steps, bool fresh, float* sums, int sums_stride, int64_t ahead) {
  using V = typename P::Vector;
  typename P::Sum acc[kRows][kPanels][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        acc[m][p][i] = P::Begin(x + m * row_bytes, fresh,
                                sums + m * sums_stride + p * kGemmPanel + i * V::kLanes);
      }
    }
  }
  const std::byte* const w_head = w;
  const std::byte* const x_head = x;
  w += P::kWeightHead;
  x += P::kXHead;
  for (int s = 0; s < steps; ++s) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 2
      for (int i = 0; i < kVectors * V::kLanes * 4; i += kAlignment) {
        __builtin_prefetch(w + p * panel_bytes + i + ahead, 0, 2);
      }
    }
    GemmPart<P, 0>(w, panel_bytes, x, row_bytes, acc);
    if constexpr (P::kParts == 2) GemmPart<P, 1>(w, panel_bytes, x, row_bytes, acc);
    w += kGemmStepBytes;
    x += P::kStepXBytes;
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        P::End(acc[m][p][i], w_head + p * panel_bytes + i * V::kLanes * 4, x_head + m * row_bytes,
               fresh, sums + m * sums_stride + p * kGemmPanel + i * V::kLanes);
      }
    }
  }
}

template <class V, class Lanes>
inline typename V::Type Finish(Epilogue epilogue, typename V::Type sum, const float* y,
                               Lanes lanes) {
  switch (epilogue) {
    case Epilogue::kNone:
      return sum;
    case Epilogue::kAdd:
      return V::Add(V::Load(y, lanes), sum);
    case Epilogue::kSquaredRelu: {
      const typename V::Type positive = V::Max(V::Zero(), sum);  // NaN passes
      return V::Mul(positive, positive);
    }
    case Epilogue::kTanh:
      return Tanh<V>(sum);
    case Epilogue::kSigmoid:
      return Sigmoid<V>(sum);
  }
  return sum;
}

// Writes `outputs` of each row of sums.
template <class V>
inline void FinishRows(const GemmBlock& block, int first_row, int rows, int outputs,
                       const float* sums, int sums_stride, float* y) {
  for (int m = 0; m < rows; ++m) {
    const float* row = sums + static_cast<int64_t>(m) * sums_stride;
    float* out = y + (first_row + m) * block.y_stride;
    ForEachVector<V>(outputs, [&block, row, out](int n, auto lanes) {
      V::Store(out + n, lanes, Finish<V>(block.epilogue, V::Load(row + n), out + n, lanes));
    });
  }
}

template <class P>
struct GemmTileCall {
  using Function = void (*)(const std::byte* w, size_t panel_bytes, const std::byte* x,
                            int64_t row_bytes, int steps, bool fresh, float* sums, int sums_stride,
                            int64_t ahead);
  Function function;
  int vectors;  // of each panel; the others take further calls
  int panels;
  int64_t ahead;  // when the tile streams weights that are read only once
};

// Tiles by rows: `kTiles[rows - 1]` of P, for 1..P::kMaxRows rows.
template <class P>
inline void RunTile(const GemmTileCall<P>& tile, const GemmBlock& block, const std::byte* w,
                    const std::byte* x, int steps, bool fresh, float* sums, int sums_stride,
                    int64_t ahead) {
  constexpr int kLanes = P::Vector::kLanes;
  for (int i = 0; i < kGemmPanel / kLanes; i += tile.vectors) {
    tile.function(w + i * kLanes * 4, block.panel_bytes, x, block.row_bytes, steps, fresh,
                  sums + i * kLanes, sums_stride, ahead);
  }
}

template <class P>
inline void GemmBlockVector(const GemmBlock& block) {
  using V = typename P::Vector;
  constexpr int kMostPanels = 4;
  alignas(64) float sums[kGemmMaxRows * kGemmPanel];
  const int steps = (block.inputs + P::kStepInputs - 1) / P::kStepInputs;

  // So few rows that one tile takes them all: each weight is read once, whole panels one after the
  // other.
  if (block.rows <= P::kMaxRows) {
    const GemmTileCall<P>& tile = P::kTiles[block.rows - 1];
    const GemmTileCall<P>& single = P::kSinglePanelTiles[block.rows - 1];
    static_assert(kMostPanels * P::kMostRowsOfSeveralPanels <= kGemmMaxRows);
    for (int p = 0; p < block.panels;) {
      const GemmTileCall<P>& chosen = block.panels - p >= tile.panels ? tile : single;
      const int stride = chosen.panels * kGemmPanel;
      const int left = block.outputs - p * kGemmPanel;
      for (int s = 0; s < steps; s += P::kMostSteps) {
        RunTile<P>(chosen, block, block.w + p * block.panel_bytes + P::WeightOffset(s),
                   block.x + P::XOffset(block, s),
                   steps - s < P::kMostSteps ? steps - s : P::kMostSteps, s == 0, sums, stride,
                   chosen.ahead);
      }
      FinishRows<V>(block, 0, block.rows, left < stride ? left : stride, sums, stride,
                    block.y + p * kGemmPanel);
      p += chosen.panels;
    }
    return;
  }

  // Many rows: a piece of the panel stays in the first-level cache while all rows pass, in tiles of
  // nearly equal height.
  const int tiles = (block.rows + P::kMaxRows - 1) / P::kMaxRows;
  for (int p = 0; p < block.panels; ++p) {
    const int left = block.outputs - p * kGemmPanel;
    for (int s = 0; s < steps; s += P::kBlockSteps) {
      const int count = steps - s < P::kBlockSteps ? steps - s : P::kBlockSteps;
      const std::byte* w = block.w + p * block.panel_bytes + P::WeightOffset(s);
      for (int i = 0; i < tiles; ++i) {
        const int row = block.rows * i / tiles;
        const int rows = block.rows * (i + 1) / tiles - row;
        RunTile<P>(P::kSinglePanelTiles[rows - 1], block, w,
                   block.x + row * block.row_bytes + P::XOffset(block, s), count, s == 0,
                   sums + row * kGemmPanel, kGemmPanel, i + 1 == tiles ? P::kBlockAhead : 0);
      }
    }
    FinishRows<V>(block, 0, block.rows, left < kGemmPanel ? left : kGemmPanel, sums, kGemmPanel,
                  block.y + p * kGemmPanel);
  }
}

// Sums in floats, for products of kXBytes of x a step.
template <class V, int kXBytes>
struct FloatSums {
  using Vector = V;
  using Sum = typename V::Type;
  static constexpr int kStepXBytes = kXBytes;
  // 16 KiB of weights, half of a first-level cache.
  static constexpr int kBlockSteps = 128;
  static constexpr int64_t kBlockAhead = kBlockSteps * kGemmStepBytes;
  static constexpr int kMostSteps = 1 << 30;
  static constexpr int kWeightHead = 0;
  static constexpr int kXHead = 0;
  static int64_t WeightOffset(int step) { return static_cast<int64_t>(step) * kGemmStepBytes; }
  static int64_t XOffset(const GemmBlock&, int step) {
    return static_cast<int64_t>(step) * kXBytes;
  }
  static Sum Begin(const std::byte*, bool fresh, const float* sums) {
    return fresh ? V::Zero() : V::Load(sums);
  }
  static void End(Sum sum, const std::byte*, const std::byte*, bool, float* sums) {
    V::Store(sums, sum);
  }
};

// One fp32 input a step.
template <class V>
struct Float32Product : FloatSums<V, 4> {
  static constexpr int kStepInputs = 1;
  static constexpr int kParts = 1;
  using Factor = typename V::Type;
  using Weight = typename V::Type;
  template <int kPart>
  static Weight LoadWeight(const std::byte* p) {
    return V::Load(reinterpret_cast<const float*>(p));
  }
  template <int kPart>
  static Factor LoadX(const std::byte* p) {
    return V::Set(*reinterpret_cast<const float*>(p));
  }
  static typename V::Type Multiply(Weight w, Factor x, typename V::Type sum) {
    return V::Fma(w, x, sum);
  }
};

// Two bf16 inputs a step, widened and multiplied one after the other: for processors without an
// instruction for the pair.
template <class V>
struct WidenedBf16Product : FloatSums<V, 8> {
  static constexpr int kStepInputs = 2;
  static constexpr int kParts = 2;
  using Factor = typename V::Type;
  using Weight = typename V::Type;
  template <int kPart>
  static Weight LoadWeight(const std::byte* p) {
    return kPart == 0 ? V::LoadFirstOfPairs(p) : V::LoadSecondOfPairs(p);
  }
  template <int kPart>
  static Factor LoadX(const std::byte* p) {
    return V::Set(reinterpret_cast<const float*>(p)[kPart]);
  }
  static typename V::Type Multiply(Weight w, Factor x, typename V::Type sum) {
    return V::Fma(w, x, sum);
  }
};

// Rounds a row for WidenedBf16Product.
template <class V>
inline void RoundRowWidened(const float* x, int inputs, std::byte* rounded, int64_t) {
  auto* out = reinterpret_cast<float*>(rounded);
  const int padded = inputs + inputs % 2;
  for (int k = 0; k < padded; k += V::kLanes) {
    V::Store(out + k, V::FirstLanes(padded - k),
             V::RoundToBf16(V::Load(x + k, V::FirstLanes(inputs - k))));
  }
}

}  // namespace dreamstate::kernels
