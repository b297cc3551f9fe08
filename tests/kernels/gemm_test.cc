#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "kernels/gemm/gemm_reference.h"
#include "kernels/runtime/bf16.h"
#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::kFloat32, WeightFormat::kBfloat16,
                                     WeightFormat::kInt8};

// What a format makes of `count` values of a row.
void RoundRow(WeightFormat format, const float* values, int count, std::vector<double>* out) {
  for (int first = 0; first < count; first += kInt8Group) {
    const int size = std::min(kInt8Group, count - first);
    int8_t q[kInt8Group];
    const double scale =
        format == WeightFormat::kInt8 ? QuantizeReference(values + first, 1, size, q) : 0.0;
    for (int i = 0; i < size; ++i) {
      const float value = values[first + i];
      out->push_back(format == WeightFormat::kInt8       ? q[i] * scale
                     : format == WeightFormat::kBfloat16 ? Bf16ToFloat(FloatToBf16(value))
                                                         : value);
    }
  }
}

AlignedBuffer<std::byte> Scratch(int rows, int inputs, int tasks = 1) {
  return MakeAligned<std::byte>(GemmScratchBytes(rows, inputs) * tasks);
}

// One product with its own arrays; strides are wider than the rows, and what lies between rows must
// stay as it is.
struct Product {
  Product(int row_count, int input_count, int output_count, WeightFormat weight_format,
          uint32_t seed)
      : rows(row_count),
        inputs(input_count),
        outputs(output_count),
        format(weight_format),
        x_stride(input_count + 3),
        y_stride(output_count + 5),
        x(RandomNormal(static_cast<size_t>(rows) * x_stride, seed)),
        weights(RandomNormal(static_cast<size_t>(outputs) * inputs, seed + 1,
                             1.0f / std::sqrt(1.0f * inputs))),
        y(RandomNormal(static_cast<size_t>(rows) * y_stride, seed + 2)),
        y_before(y.Floats()),
        packed(PackedMatrix::Pack(weights.data(), outputs, inputs, false, format)) {}

  GemmTask Task(Epilogue epilogue = Epilogue::kNone) {
    return {.w = &packed,
            .x = x.data(),
            .x_stride = x_stride,
            .y = y.data(),
            .y_stride = y_stride,
            .rows = rows,
            .epilogue = epilogue};
  }

  // In double, from what the format makes of weights and inputs.
  std::vector<double> Expected(Epilogue epilogue) const {
    std::vector<double> dense_x;
    for (int m = 0; m < rows; ++m) RoundRow(format, x.data() + m * x_stride, inputs, &dense_x);
    std::vector<double> dense_w;
    for (int n = 0; n < outputs; ++n) {
      RoundRow(format, weights.data() + static_cast<int64_t>(n) * inputs, inputs, &dense_w);
    }
    std::vector<double> result(static_cast<size_t>(rows) * outputs);
    GemmReference<double>(dense_x.data(), dense_w.data(), false, rows, inputs, outputs,
                          result.data());
    for (int m = 0; m < rows; ++m) {
      for (int n = 0; n < outputs; ++n) {
        double& value = result[m * outputs + n];
        switch (epilogue) {
          case Epilogue::kNone:
            break;
          case Epilogue::kAdd:
            value += y_before[m * y_stride + n];
            break;
          case Epilogue::kSquaredRelu:
            value = value > 0.0 ? value * value : 0.0;
            break;
          case Epilogue::kTanh:
            value = std::tanh(value);
            break;
          case Epilogue::kSigmoid:
            value = 1.0 / (1.0 + std::exp(-value));
            break;
        }
      }
    }
    return result;
  }

  void ExpectClose(Epilogue epilogue) const {
    const std::vector<double> expected = Expected(epilogue);
    double largest = 0.0;
    for (int m = 0; m < rows; ++m) {
      largest = std::max(largest, LargestError(y.data() + m * y_stride,
                                               expected.data() + m * outputs, outputs, 1.0));
      // Between the rows nothing was written.
      EXPECT_TRUE(SameBits(y.data() + m * y_stride + outputs,
                           y_before.data() + m * y_stride + outputs, y_stride - outputs));
    }
    EXPECT_LT(largest, 1e-5) << rows << " rows, " << inputs << " inputs, " << outputs
                             << " outputs, epilogue " << static_cast<int>(epilogue);
    EXPECT_TRUE(y.GuardsIntact());
  }

  int rows;
  int inputs;
  int outputs;
  WeightFormat format;
  int64_t x_stride;
  int64_t y_stride;
  Misaligned x;
  Misaligned weights;
  Misaligned y;
  std::vector<float> y_before;
  PackedMatrix packed;
};

void Multiply(Product& product, Epilogue epilogue, ThreadPool& pool) {
  const GemmTask task = product.Task(epilogue);
  const auto scratch = Scratch(product.rows, product.inputs);
  Gemm({&task, 1}, {scratch.get(), GemmScratchBytes(product.rows, product.inputs)}, pool);
}

class GemmTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, GemmTest, testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(GemmTest, OddShapesAndMisalignedPointersAgreeWithTheReference) {
  ThreadPool pool(2);
  uint32_t seed = 1;
  for (const WeightFormat format : kFormats) {
    for (const int rows : {0, 1, 2, 3, 5, 7, 12, 13, 37, 97}) {
      for (const auto& [inputs, outputs] :
           {std::pair(1, 1), std::pair(2, 33), std::pair(7, 31), std::pair(65, 96),
            std::pair(128, 64), std::pair(130, 129), std::pair(257, 40), std::pair(300, 5)}) {
        Product product(rows, inputs, outputs, format, seed += 3);
        Multiply(product, Epilogue::kNone, pool);
        product.ExpectClose(Epilogue::kNone);
      }
    }
  }
}

TEST_P(GemmTest, EveryEpilogueAgreesWithTheReference) {
  ThreadPool pool(2);
  for (const WeightFormat format : kFormats) {
    for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kAdd, Epilogue::kSquaredRelu,
                                    Epilogue::kTanh, Epilogue::kSigmoid}) {
      for (const int rows : {1, 14}) {
        Product product(rows, 77, 141, format, 5);
        Multiply(product, epilogue, pool);
        product.ExpectClose(epilogue);
      }
    }
  }
}

TEST_P(GemmTest, ARowHasTheSameBitsAloneAndInAnyBatch) {
  ThreadPool pool(2);
  constexpr int kMostRows = 40;
  for (const WeightFormat format : kFormats) {
    for (const int inputs : {93, 301}) {
      Product all(kMostRows, inputs, 171, format, 11);
      Multiply(all, Epilogue::kSigmoid, pool);
      for (int rows = 1; rows < kMostRows; ++rows) {
        Misaligned y(static_cast<size_t>(rows) * all.y_stride);
        GemmTask task = all.Task(Epilogue::kSigmoid);
        const int first = kMostRows - rows;  // so that the row lies elsewhere in its tile, too
        task.x += first * all.x_stride;
        task.y = y.data();
        task.rows = rows;
        const auto scratch = Scratch(rows, inputs);
        Gemm({&task, 1}, {scratch.get(), GemmScratchBytes(rows, inputs)}, pool);
        for (int m = 0; m < rows; ++m) {
          ASSERT_TRUE(SameBits(y.data() + m * all.y_stride,
                               all.y.data() + (first + m) * all.y_stride, all.outputs))
              << "row " << m << " of " << rows;
        }
      }
    }
  }
}

TEST_P(GemmTest, LongBatchesGiveTheSameBitsAsTheirPieces) {
  ThreadPool pool(2);
  for (const WeightFormat format : kFormats) {
    Product all(211, 150, 70, format, 17);
    Multiply(all, Epilogue::kNone, pool);
    Misaligned y(static_cast<size_t>(all.rows) * all.y_stride);
    for (int first = 0; first < all.rows; first += 50) {
      GemmTask task = all.Task();
      task.rows = std::min(50, all.rows - first);
      task.x += first * all.x_stride;
      task.y = y.data() + first * all.y_stride;
      const auto scratch = Scratch(task.rows, all.inputs);
      Gemm({&task, 1}, {scratch.get(), GemmScratchBytes(task.rows, all.inputs)}, pool);
    }
    for (int m = 0; m < all.rows; ++m) {
      ASSERT_TRUE(
          SameBits(y.data() + m * all.y_stride, all.y.data() + m * all.y_stride, all.outputs))
          << "row " << m;
    }
  }
}

TEST_P(GemmTest, AnyNumberOfThreadsGivesTheSameBits) {
  for (const WeightFormat format : kFormats) {
    for (const int rows : {1, 9, 230}) {
      std::vector<float> first;
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Product product(rows, 515, 300, format, 23);
        Multiply(product, Epilogue::kAdd, pool);
        if (threads == 1) first = product.y.Floats();
        EXPECT_TRUE(SameBits(product.y.data(), first.data(), first.size()))
            << threads << " threads, " << rows << " rows";
      }
    }
  }
}

TEST_P(GemmTest, TasksOfOneCallGiveTheSameBitsAsEachAlone) {
  ThreadPool pool(2);
  // Different rows, inputs and formats; the first two bf16 tasks share their x, and so do the two
  // int8 tasks with each other and with the last bf16 one.
  std::vector<Product> together;
  std::vector<Product> alone;
  for (std::vector<Product>* products : {&together, &alone}) {
    products->emplace_back(9, 120, 200, WeightFormat::kBfloat16, 31);
    products->emplace_back(9, 120, 64, WeightFormat::kBfloat16, 37);
    products->emplace_back(130, 33, 70, WeightFormat::kFloat32, 41);
    products->emplace_back(0, 8, 40, WeightFormat::kBfloat16, 43);
    products->emplace_back(2, 301, 40, WeightFormat::kBfloat16, 47);
    products->emplace_back(1, 50, 1000, WeightFormat::kFloat32, 53);
    products->emplace_back(9, 120, 50, WeightFormat::kInt8, 59);
    products->emplace_back(9, 120, 70, WeightFormat::kInt8, 61);
    products->emplace_back(9, 120, 70, WeightFormat::kBfloat16, 67);
  }
  std::vector<GemmTask> tasks;
  size_t scratch_bytes = 0;
  for (Product& product : together) {
    tasks.push_back(product.Task(Epilogue::kTanh));
    scratch_bytes += GemmScratchBytes(product.rows, product.inputs);
  }
  tasks[1].x = tasks[0].x;
  tasks[7].x = tasks[8].x = tasks[6].x;
  const auto scratch = MakeAligned<std::byte>(scratch_bytes);
  Gemm(tasks, {scratch.get(), scratch_bytes}, pool);
  std::memcpy(alone[1].x.data(), alone[0].x.data(), alone[0].x.size() * sizeof(float));
  for (const int i : {7, 8})
    std::memcpy(alone[i].x.data(), alone[6].x.data(), alone[6].x.size() * sizeof(float));
  for (size_t i = 0; i < alone.size(); ++i) {
    Multiply(alone[i], Epilogue::kTanh, pool);
    EXPECT_TRUE(SameBits(alone[i].y.data(), together[i].y.data(), alone[i].y.size()))
        << "task " << i;
    EXPECT_TRUE(together[i].y.GuardsIntact());
  }
}

TEST_P(GemmTest, NoTasksAndNoRowsDoNothing) {
  ThreadPool pool(2);
  Gemm({}, {}, pool);
  Product product(0, 5, 5, WeightFormat::kBfloat16, 1);
  Multiply(product, Epilogue::kNone, pool);
  EXPECT_TRUE(product.y.GuardsIntact());
}

TEST_P(GemmTest, NonFiniteInputsReachOnlyTheirOwnRow) {
  ThreadPool pool(2);
  for (const WeightFormat format : kFormats) {
    for (const Epilogue epilogue :
         {Epilogue::kNone, Epilogue::kSquaredRelu, Epilogue::kTanh, Epilogue::kSigmoid}) {
      Product product(15, 40, 50, format, 61);
      product.x[3 * product.x_stride + 17] = NAN;
      product.x[7 * product.x_stride + 2] = INFINITY;
      Multiply(product, epilogue, pool);
      for (int m = 0; m < product.rows; ++m) {
        for (int n = 0; n < product.outputs; ++n) {
          const float value = product.y[m * product.y_stride + n];
          if (m == 3) {
            EXPECT_TRUE(std::isnan(value));
          } else if (m != 7) {
            EXPECT_TRUE(std::isfinite(value));
          }
        }
      }
    }
  }
}

TEST_P(GemmTest, Int8GivesTheSameBitsOnEveryInstructionSet) {
  ThreadPool pool(2);
  for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kAdd, Epilogue::kSquaredRelu}) {
    for (const int rows : {1, 3, 29}) {
      Product expected(rows, 333, 75, WeightFormat::kInt8, 71);
      // Rows of every kind of group: zeros, values too small to count, huge ones, halves (ties of
      // the rounding), one far beyond the others.
      const auto fill = [rows](Product& product) {
        float* row = product.x.data() + (rows - 1) * product.x_stride;
        for (int k = 0; k < 100; ++k) row[k] = 0.0f;
        for (int k = 128; k < 256; ++k) row[k] = static_cast<float>(k % 255 - 127) * 0.5f;
        row[255] = 127.0f;
        row[300] = 1e6f;
        product.x[5] = 1e-36f;
        if (rows > 1) {
          for (int k = 0; k < 128; ++k) product.x[k] = k % 2 == 0 ? 1e-36f : 1e-42f;
          for (int k = 128; k < 256; ++k) product.x[k] = k % 2 == 0 ? 3e37f : -1e-3f;
        }
      };
      fill(expected);
      Product product(rows, 333, 75, WeightFormat::kInt8, 71);
      fill(product);
      Multiply(product, epilogue, pool);
      SetActiveIsaForTesting(Isa::kReference);
      Multiply(expected, epilogue, pool);
      SetActiveIsaForTesting(GetParam());
      EXPECT_TRUE(SameBits(product.y.data(), expected.y.data(), expected.y.size()))
          << rows << " rows, epilogue " << static_cast<int>(epilogue);
    }
  }
}

TEST_P(GemmTest, ExtremesOfInt8NeitherOverflowNorSaturate) {
  ThreadPool pool(2);
  for (const float sign : {1.0f, -1.0f}) {
    Product product(7, 1024, 64, WeightFormat::kInt8, 73);
    for (size_t i = 0; i < product.x.size(); ++i) product.x[i] = sign;
    std::vector<float> ones(static_cast<size_t>(product.outputs) * product.inputs, 1.0f);
    for (int k = 0; k < product.inputs; ++k) ones[k] = -1.0f;
    product.packed = PackedMatrix::Pack(ones.data(), product.outputs, product.inputs, false,
                                        WeightFormat::kInt8);
    Multiply(product, Epilogue::kNone, pool);
    for (int m = 0; m < product.rows; ++m) {
      EXPECT_NEAR(product.y[m * product.y_stride], -1024.0f * sign, 1e-3f);
      EXPECT_NEAR(product.y[m * product.y_stride + 63], 1024.0f * sign, 1e-3f);
    }
  }
}

// The yardstick of a served format: the error of its products against exact ones.
TEST_P(GemmTest, HeavyTailedActivationsCostInt8OnlyTheirOwnGroup) {
  ThreadPool pool(2);
  constexpr int kInputs = 768;
  const auto error = [&](bool outlier) {
    Product product(8, kInputs, 96, WeightFormat::kInt8, 79);
    if (outlier) {
      for (int m = 0; m < product.rows; ++m) product.x[m * product.x_stride + 5] *= 50.0f;
    }
    Multiply(product, Epilogue::kNone, pool);
    product.format = WeightFormat::kFloat32;
    const std::vector<double> exact = product.Expected(Epilogue::kNone);
    double squares = 0.0;
    for (int m = 0; m < product.rows; ++m) {
      for (int n = 0; n < product.outputs; ++n) {
        const double e = product.y[m * product.y_stride + n] -
                         exact[static_cast<size_t>(m) * product.outputs + n];
        squares += e * e;
      }
    }
    return std::sqrt(squares / static_cast<double>(exact.size()));
  };
  // Results are of size 1. A whole row with one scale has 0.0111, and 0.1 with the outlier.
  EXPECT_LT(error(false), 0.0105);
  EXPECT_LT(error(true), 0.06);
}

TEST(PackedMatrix, TransposedWeightsPackToTheSameBytes) {
  constexpr int kOutputs = 45;
  constexpr int kInputs = 19;
  const Misaligned weights = RandomNormal(kOutputs * kInputs, 3);
  std::vector<float> transposed(weights.size());
  for (int n = 0; n < kOutputs; ++n) {
    for (int k = 0; k < kInputs; ++k) transposed[k * kOutputs + n] = weights[n * kInputs + k];
  }
  for (const WeightFormat format : kFormats) {
    const PackedMatrix a = PackedMatrix::Pack(weights.data(), kOutputs, kInputs, false, format);
    const PackedMatrix b = PackedMatrix::Pack(transposed.data(), kOutputs, kInputs, true, format);
    ASSERT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0);
    EXPECT_EQ(a.panels(), 2);
    EXPECT_EQ(a.bytes(), format == WeightFormat::kFloat32    ? 2u * 32 * 19 * 4
                         : format == WeightFormat::kBfloat16 ? 2u * 32 * 20 * 2
                                                             : 2u * 32 * (4 + 20));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data()) % kAlignment, 0u);
  }
}

TEST(PackedMatrix, PanelsHoldOutputsAcrossLanesAndZerosBeyondTheEdges) {
  const Misaligned weights = RandomNormal(33 * 3, 3);
  const PackedMatrix fp32 =
      PackedMatrix::Pack(weights.data(), 33, 3, false, WeightFormat::kFloat32);
  const PackedMatrix bf16 =
      PackedMatrix::Pack(weights.data(), 33, 3, false, WeightFormat::kBfloat16);
  const auto* floats = reinterpret_cast<const float*>(fp32.data());
  const auto* pairs = reinterpret_cast<const Bf16*>(bf16.data());
  for (int n = 0; n < 64; ++n) {
    for (int k = 0; k < 4; ++k) {
      const float expected = n < 33 && k < 3 ? weights[n * 3 + k] : 0.0f;
      if (k < 3) {
        EXPECT_EQ(floats[n / 32 * 3 * 32 + k * 32 + n % 32], expected);
      }
      EXPECT_EQ(pairs[n / 32 * 4 * 32 + k / 2 * 64 + n % 32 * 2 + k % 2], FloatToBf16(expected));
    }
  }
}

TEST(PackedMatrix, GroupsOfInt8HoldTheirScalesAndEveryValueIsWithinHalfAStep) {
  constexpr int kOutputs = 33;
  constexpr int kInputs = 131;  // a whole group, and three inputs of another
  const Misaligned weights = RandomNormal(kOutputs * kInputs, 3);
  const PackedMatrix packed =
      PackedMatrix::Pack(weights.data(), kOutputs, kInputs, false, WeightFormat::kInt8);
  constexpr size_t kPanelBytes = 32 * (4 + 128) + 32 * (4 + 4);
  ASSERT_EQ(packed.bytes(), 2 * kPanelBytes);
  for (int n = 0; n < 64; ++n) {
    for (int k = 0; k < 132; ++k) {
      const std::byte* group = packed.data() + n / 32 * kPanelBytes + k / 128 * (32 * (4 + 128));
      float scale;
      std::memcpy(&scale, group + n % 32 * 4, sizeof scale);
      const int q = static_cast<int>(group[128 + (k % 128 / 4 * 32 + n % 32) * 4 + k % 4]) - 128;
      if (n < kOutputs && k < kInputs) {
        EXPECT_NEAR(static_cast<float>(q) * scale, weights[n * kInputs + k], 0.501f * scale);
      } else {
        EXPECT_EQ(q, 0);
      }
    }
  }
}

}  // namespace
}  // namespace dreamstate::kernels
