// Matrix products for a product P: a vector type with what one step along k does to a vector of
// sums.
//
// Every weight format has 4 bytes an output a step (one fp32 weight, or two bf16), so a step of a
// panel is kStepBytes whatever P. Each output is one chain of steps from 0, ascending; how many
// rows, panels or steps a tile takes together changes which chains run side by side and nothing
// inside one, which is why a row has the same bits alone and among others.
#pragma once

#include "kernels/activation/vector_math.h"
#include "kernels/gemm/gemm_isa.h"

namespace dreamstate::kernels {

inline constexpr int kGemmPanel = 32;
inline constexpr int kGemmStepBytes = kGemmPanel * 4;
// Steps after which the next rows take their turn: 16 KiB of weights, half of a first-level cache.
inline constexpr int kGemmBlockSteps = 128;

// What P has:
//   Vector                  the vector type
//   kStepInputs             inputs a step
//   kStepXBytes             bytes of a row of x a step
//   Factor, LoadX(p)        a row's inputs of one step in every lane
//   Weight, LoadWeight(p)   the weights of one step of kLanes outputs
//   Multiply(w, x, sum)     sum after the step

// Sums of kRows rows by kPanels panels by kVectors vectors of each panel, over `steps` steps.
// sums: [kRows][sums_stride], each panel's kGemmPanel after the one before; continued from what
// they hold unless `fresh`.
template <class P, int kRows, int kVectors, int kPanels>
inline void GemmTile(const std::byte* w, size_t panel_bytes, const std::byte* x, int64_t row_bytes,
                     int steps, bool fresh, float* sums, int sums_stride) {
  using V = typename P::Vector;
  typename V::Type acc[kRows][kPanels][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        acc[m][p][i] =
            fresh ? V::Zero() : V::Load(sums + m * sums_stride + p * kGemmPanel + i * V::kLanes);
      }
    }
  }
  for (int s = 0; s < steps; ++s) {
    typename P::Weight weights[kPanels][kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        weights[p][i] = P::LoadWeight(w + p * panel_bytes + i * V::kLanes * 4);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const typename P::Factor factor = P::LoadX(x + m * row_bytes);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i)
          acc[m][p][i] = P::Multiply(weights[p][i], factor, acc[m][p][i]);
      }
    }
    w += kGemmStepBytes;
    x += P::kStepXBytes;
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        V::Store(sums + m * sums_stride + p * kGemmPanel + i * V::kLanes, acc[m][p][i]);
      }
    }
  }
}

template <class V>
inline typename V::Type Finish(Epilogue epilogue, typename V::Type sum, const float* y,
                               typename V::Mask mask) {
  switch (epilogue) {
    case Epilogue::kNone:
      return sum;
    case Epilogue::kAdd:
      return V::Add(V::Load(y, mask), sum);
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
    for (int n = 0; n < outputs; n += V::kLanes) {
      const typename V::Mask mask = V::FirstLanes(outputs - n);
      V::Store(out + n, mask, Finish<V>(block.epilogue, V::Load(row + n), out + n, mask));
    }
  }
}

template <class P>
struct GemmTileCall {
  using Function = void (*)(const std::byte* w, size_t panel_bytes, const std::byte* x,
                            int64_t row_bytes, int steps, bool fresh, float* sums, int sums_stride);
  Function function;
  int vectors;  // of each panel; the others take further calls
  int panels;
};

// Tiles by rows: `kTiles[rows - 1]` of P, for 1..P::kMaxRows rows.
template <class P>
inline void RunTile(const GemmTileCall<P>& tile, const GemmBlock& block, const std::byte* w,
                    const std::byte* x, int steps, bool fresh, float* sums, int sums_stride) {
  constexpr int kLanes = P::Vector::kLanes;
  for (int i = 0; i < kGemmPanel / kLanes; i += tile.vectors) {
    tile.function(w + i * kLanes * 4, block.panel_bytes, x, block.row_bytes, steps, fresh,
                  sums + i * kLanes, sums_stride);
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
      RunTile<P>(chosen, block, block.w + p * block.panel_bytes, block.x, steps, true, sums,
                 stride);
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
    for (int s = 0; s < steps; s += kGemmBlockSteps) {
      const int count = steps - s < kGemmBlockSteps ? steps - s : kGemmBlockSteps;
      const std::byte* w =
          block.w + p * block.panel_bytes + static_cast<int64_t>(s) * kGemmStepBytes;
      for (int i = 0; i < tiles; ++i) {
        const int row = block.rows * i / tiles;
        const int rows = block.rows * (i + 1) / tiles - row;
        RunTile<P>(P::kSinglePanelTiles[rows - 1], block, w,
                   block.x + row * block.row_bytes + static_cast<int64_t>(s) * P::kStepXBytes,
                   count, s == 0, sums + row * kGemmPanel, kGemmPanel);
      }
    }
    FinishRows<V>(block, 0, block.rows, left < kGemmPanel ? left : kGemmPanel, sums, kGemmPanel,
                  block.y + p * kGemmPanel);
  }
}

// One fp32 input a step.
template <class V>
struct Float32Product {
  using Vector = V;
  static constexpr int kStepInputs = 1;
  static constexpr int kStepXBytes = 4;
  using Factor = typename V::Type;
  using Weight = typename V::Type;
  static Weight LoadWeight(const std::byte* p) {
    return V::Load(reinterpret_cast<const float*>(p));
  }
  static Factor LoadX(const std::byte* p) { return V::Set(*reinterpret_cast<const float*>(p)); }
  static typename V::Type Multiply(Weight w, Factor x, typename V::Type sum) {
    return V::Fma(w, x, sum);
  }
};

// Two bf16 inputs a step, widened: for processors without an instruction that multiplies them.
template <class V>
struct WidenedBf16Product {
  using Vector = V;
  static constexpr int kStepInputs = 2;
  static constexpr int kStepXBytes = 8;
  struct Pair {
    typename V::Type first;
    typename V::Type second;
  };
  using Factor = Pair;
  using Weight = Pair;
  static Weight LoadWeight(const std::byte* p) {
    return {V::LoadFirstOfPairs(p), V::LoadSecondOfPairs(p)};
  }
  static Factor LoadX(const std::byte* p) {
    const auto* x = reinterpret_cast<const float*>(p);
    return {V::Set(x[0]), V::Set(x[1])};
  }
  static typename V::Type Multiply(const Weight& w, const Factor& x, typename V::Type sum) {
    return V::Fma(w.second, x.second, V::Fma(w.first, x.first, sum));
  }
};

// Rounds a row for WidenedBf16Product.
template <class V>
inline void RoundRowWidened(const float* x, int inputs, std::byte* rounded) {
  auto* out = reinterpret_cast<float*>(rounded);
  const int padded = inputs + inputs % 2;
  for (int k = 0; k < padded; k += V::kLanes) {
    V::Store(out + k, V::FirstLanes(padded - k),
             V::RoundToBf16(V::Load(x + k, V::FirstLanes(inputs - k))));
  }
}

}  // namespace dreamstate::kernels
