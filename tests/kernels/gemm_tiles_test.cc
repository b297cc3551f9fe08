// Products by tiles (kernels/gemm/gemm_tiles.h) with tiles in plain code, on every machine; the
// same with the processor's own are in gemm_test.cc wherever there are any.
#include "kernels/gemm/gemm_tiles.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_reference.h"
#include "kernels/runtime/bf16.h"
#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

// What the instructions do, by Intel's description of them.
struct PlainTiles {
  static constexpr int kRows = 16;
  static constexpr int kRowBytes = 64;
  using Tile = std::array<std::byte, kRows * kRowBytes>;

  static void Begin() {
    active = true;
    for (Tile& tile : tiles) tile.fill(std::byte{0x7f});  // nothing may be taken for granted
  }
  static void End() { active = false; }
  template <int kTile>
  static void Zero() {
    EXPECT_TRUE(active);
    tiles[kTile].fill(std::byte{0});
  }
  template <int kTile>
  static void Load(const std::byte* base, int64_t stride) {
    EXPECT_TRUE(active);
    for (int row = 0; row < kRows; ++row)
      std::memcpy(&tiles[kTile][row * kRowBytes], base + row * stride, kRowBytes);
  }
  template <int kTile>
  static void Store(std::byte* base, int64_t stride) {
    EXPECT_TRUE(active);
    for (int row = 0; row < kRows; ++row)
      std::memcpy(base + row * stride, &tiles[kTile][row * kRowBytes], kRowBytes);
  }
  template <typename Element>
  static Element Get(int tile, int row, int column) {
    Element element;
    std::memcpy(&element, &tiles[tile][row * kRowBytes + column * sizeof element], sizeof element);
    return element;
  }
  template <typename Element>
  static void Set(int tile, int row, int column, Element element) {
    std::memcpy(&tiles[tile][row * kRowBytes + column * sizeof element], &element, sizeof element);
  }
  template <int kC, int kA, int kB>
  static void MultiplyInt8() {
    for (int m = 0; m < kRows; ++m) {
      for (int n = 0; n < 16; ++n) {
        int32_t sum = Get<int32_t>(kC, m, n);
        for (int k = 0; k < 64; ++k) {
          sum += Get<int8_t>(kA, m, k) * Get<uint8_t>(kB, k / 4, n * 4 + k % 4);
        }
        Set(kC, m, n, sum);
      }
    }
  }
  template <int kC, int kA, int kB>
  static void MultiplyBf16() {
    for (int m = 0; m < kRows; ++m) {
      for (int n = 0; n < 16; ++n) {
        float halves[2] = {};  // even and odd k, added to the sum at the end
        for (int k = 0; k < 32; ++k) {
          halves[k % 2] = std::fma(Bf16ToFloat(Get<Bf16>(kA, m, k)),
                                   Bf16ToFloat(Get<Bf16>(kB, k / 2, n * 2 + k % 2)), halves[k % 2]);
        }
        Set(kC, m, n, Get<float>(kC, m, n) + (halves[0] + halves[1]));
      }
    }
  }

  static thread_local bool active;
  static thread_local std::array<Tile, 8> tiles;
};
thread_local bool PlainTiles::active = false;
thread_local std::array<PlainTiles::Tile, 8> PlainTiles::tiles;

struct PlainFinisher {
  static void Finish(const GemmBlock& block, int first_row, int rows, int outputs,
                     const float* sums, int sums_stride, float* y) {
    for (int m = 0; m < rows; ++m) {
      for (int n = 0; n < outputs; ++n)
        y[(first_row + m) * block.y_stride + n] = sums[m * sums_stride + n];
    }
  }
};

struct Shape {
  int rows, inputs, outputs;
};

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (const int rows : {1, 7, 15, 16, 17, 31, 32, 33, 96}) {
    for (const auto& [inputs, outputs] :
         {std::pair(1, 1), std::pair(3, 33), std::pair(31, 16), std::pair(64, 32),
          std::pair(65, 95), std::pair(129, 64), std::pair(200, 17), std::pair(256, 70)}) {
      shapes.push_back({rows, inputs, outputs});
    }
  }
  return shapes;
}

// Everything of a block: x as converted rows in blocks of `block_bytes`, block by block. The memory
// behind them, that the last tile of rows reads, is not zero.
struct TileProduct {
  TileProduct(const Shape& shape, WeightFormat format, int block_inputs, int block_size)
      : rows(shape.rows),
        inputs(shape.inputs),
        outputs(shape.outputs),
        blocks((inputs + block_inputs - 1) / block_inputs),
        block_bytes(block_size),
        x(RandomNormal(static_cast<size_t>(rows) * inputs, 7)),
        weights(RandomNormal(static_cast<size_t>(outputs) * inputs, 8,
                             1.0f / std::sqrt(1.0f * inputs))),
        y(static_cast<size_t>(rows) * outputs),
        packed(PackedMatrix::Pack(weights.data(), outputs, inputs, false, format)),
        converted(MakeAligned<std::byte>(Bytes() + kTileRows * block_bytes)) {
    std::memset(converted.get() + Bytes(), 0x7f, kTileRows * block_bytes);
  }

  size_t Bytes() const { return static_cast<size_t>(blocks) * rows * block_bytes; }
  std::byte* Converted(int block, int row) {
    return converted.get() + (static_cast<int64_t>(block) * rows + row) * block_bytes;
  }
  GemmBlock Block() {
    return {.w = packed.data(),
            .panel_bytes = packed.bytes() / packed.panels(),
            .panels = packed.panels(),
            .outputs = outputs,
            .inputs = inputs,
            .x = converted.get(),
            .row_bytes = block_bytes,
            .x_block_bytes = static_cast<int64_t>(rows) * block_bytes,
            .rows = rows,
            .y = y.data(),
            .y_stride = outputs,
            .epilogue = Epilogue::kNone};
  }

  int rows, inputs, outputs, blocks, block_bytes;
  Misaligned x, weights, y;
  PackedMatrix packed;
  AlignedBuffer<std::byte> converted;
};

void RunInt8(const Shape& shape, TileProduct* product) {
  for (int m = 0; m < shape.rows; ++m) {
    for (int first = 0; first < shape.inputs; first += kInt8Group) {
      int8_t q[kInt8Group] = {};
      Int8RowHead head = {};
      head.scale = QuantizeReference(product->x.data() + m * shape.inputs + first, 1,
                                     std::min(kInt8Group, shape.inputs - first), q);
      for (const int8_t value : q) head.start -= 128 * value;
      std::byte* out = product->Converted(first / kInt8Group, m);
      std::memcpy(out, &head, sizeof head);
      std::memcpy(out + sizeof head, q, sizeof q);
    }
  }
  GemmInt8Tiles<PlainTiles, PlainFinisher>(product->Block());
}

TEST(GemmTiles, Int8GivesTheBitsOfTheReference) {
  ThreadPool pool(1);
  for (const Shape& shape : Shapes()) {
    TileProduct product(shape, WeightFormat::kInt8, kInt8Group, sizeof(Int8RowHead) + kInt8Group);
    RunInt8(shape, &product);
    Misaligned expected(product.y.size());
    const GemmTask task = {.w = &product.packed,
                           .x = product.x.data(),
                           .x_stride = shape.inputs,
                           .y = expected.data(),
                           .y_stride = shape.outputs,
                           .rows = shape.rows};
    const size_t scratch_bytes = GemmScratchBytes(shape.rows, shape.inputs);
    const auto scratch = MakeAligned<std::byte>(scratch_bytes);
    SetActiveIsaForTesting(Isa::kReference);
    Gemm({&task, 1}, {scratch.get(), scratch_bytes}, pool);
    SetActiveIsaForTesting(BestIsa());
    EXPECT_TRUE(SameBits(product.y.data(), expected.data(), expected.size()))
        << shape.rows << " rows, " << shape.inputs << " inputs, " << shape.outputs << " outputs";
    EXPECT_TRUE(product.y.GuardsIntact());
  }
}

void RunBf16(const Shape& shape, TileProduct* product) {
  for (int m = 0; m < shape.rows; ++m) {
    for (int k = 0; k < shape.inputs; ++k) {
      const Bf16 value = FloatToBf16(product->x[m * shape.inputs + k]);
      std::memcpy(product->Converted(k / 32, m) + k % 32 * sizeof value, &value, sizeof value);
    }
  }
  GemmBf16Tiles<PlainTiles, PlainFinisher>(product->Block());
}

TEST(GemmTiles, Bf16AgreesWithTheReferenceAndARowHasTheSameBitsAlone) {
  for (const Shape& shape : Shapes()) {
    TileProduct product(shape, WeightFormat::kBfloat16, 32, kTileXBytes);
    RunBf16(shape, &product);
    std::vector<double> x, w;
    for (const float value : product.x.Floats()) x.push_back(Bf16ToFloat(FloatToBf16(value)));
    for (const float value : product.weights.Floats()) w.push_back(Bf16ToFloat(FloatToBf16(value)));
    std::vector<double> expected(product.y.size());
    GemmReference<double>(x.data(), w.data(), false, shape.rows, shape.inputs, shape.outputs,
                          expected.data());
    EXPECT_LT(
        LargestError(product.y.data(), expected.data(), static_cast<int>(expected.size()), 1.0),
        1e-5)
        << shape.rows << " rows, " << shape.inputs << " inputs, " << shape.outputs << " outputs";
    EXPECT_TRUE(product.y.GuardsIntact());

    const Shape last = {1, shape.inputs, shape.outputs};
    TileProduct alone(last, WeightFormat::kBfloat16, 32, kTileXBytes);
    alone.packed = PackedMatrix::Pack(product.weights.data(), shape.outputs, shape.inputs, false,
                                      WeightFormat::kBfloat16);
    std::memcpy(alone.x.data(), product.x.data() + (shape.rows - 1) * shape.inputs,
                shape.inputs * sizeof(float));
    RunBf16(last, &alone);
    EXPECT_TRUE(SameBits(alone.y.data(), product.y.data() + (shape.rows - 1) * shape.outputs,
                         shape.outputs));
  }
}

}  // namespace
}  // namespace dreamstate::kernels
