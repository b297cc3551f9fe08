#include "kernels/activation/activation.h"

#include <limits>

#include "kernels/activation/activation_reference.h"
#include "kernels/gemm/gemm.h"
#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

// Everything that one call reads and writes.
struct Gates {
  Gates(int row_count, int heads, int head_size, bool first_layer, uint32_t seed = 1)
      : rows(row_count),
        width(static_cast<size_t>(heads) * head_size),
        w0(RandomNormal(width, seed, 3.0f)),
        a0(RandomNormal(width, seed + 1, 3.0f)),
        v0(RandomNormal(width, seed + 2, 3.0f)),
        k_k(RandomNormal(width, seed + 3)),
        k_a(RandomNormal(width, seed + 4)),
        w(RandomNormal(rows * width, seed + 5, 3.0f)),
        a(RandomNormal(rows * width, seed + 6, 3.0f)),
        v_mix(RandomNormal(rows * width, seed + 7, 3.0f)),
        v_first(RandomNormal(rows * width, seed + 8)),
        k(RandomNormal(rows * width, seed + 9)),
        v(RandomNormal(rows * width, seed + 10)),
        kk(rows * width),
        gates{.heads = heads,
              .head_size = head_size,
              .w0 = w0.data(),
              .a0 = a0.data(),
              .v0 = first_layer ? nullptr : v0.data(),
              .k_k = k_k.data(),
              .k_a = k_a.data(),
              .w = w.data(),
              .a = a.data(),
              .v_mix = first_layer ? nullptr : v_mix.data(),
              .v_first = first_layer ? nullptr : v_first.data(),
              .k = k.data(),
              .v = v.data(),
              .kk = kk.data()} {}
  int rows;
  size_t width;
  Misaligned w0, a0, v0, k_k, k_a, w, a, v_mix, v_first, k, v, kk;
  TimeMixGates gates;
};

class ActivationTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, ActivationTest, testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(ActivationTest, TimeMixGatesAgreeWithTheReference) {
  ThreadPool pool(2);
  for (const bool first_layer : {false, true}) {
    for (const int head_size : {16, 48, 64}) {
      for (const int rows : {0, 1, 3, 60}) {
        Gates g(rows, 3, head_size, first_layer);
        std::vector<double> w = g.w.Doubles();
        std::vector<double> a = g.a.Doubles();
        std::vector<double> k = g.k.Doubles();
        std::vector<double> v = g.v.Doubles();
        std::vector<double> kk(g.kk.size());
        const std::vector<float> v_before = g.v.Floats();
        TimeMixGatesReference<double>(
            3, head_size, g.w0.Doubles().data(), g.a0.Doubles().data(),
            first_layer ? nullptr : g.v0.Doubles().data(), g.k_k.Doubles().data(),
            g.k_a.Doubles().data(), w.data(), a.data(), g.v_mix.Doubles().data(),
            g.v_first.Doubles().data(), k.data(), v.data(), kk.data(), rows);
        TimeMixGateRows(g.gates, rows, pool);
        EXPECT_LT(LargestError(g.w.data(), w.data(), w.size(), 0.0), 2e-6);
        EXPECT_LT(LargestError(g.a.data(), a.data(), a.size(), 1e-3), 2e-6);
        EXPECT_LT(LargestError(g.k.data(), k.data(), k.size(), 1.0), 2e-6);
        EXPECT_LT(LargestError(g.v.data(), v.data(), v.size(), 1.0), 2e-6);
        EXPECT_LT(LargestError(g.kk.data(), kk.data(), kk.size(), 1e-3), 2e-6);
        if (first_layer) {
          EXPECT_TRUE(SameBits(g.v.data(), v_before.data(), v_before.size()));
        }
        for (const Misaligned* written : {&g.w, &g.a, &g.k, &g.v, &g.kk})
          EXPECT_TRUE(written->GuardsIntact());
      }
    }
  }
}

TEST_P(ActivationTest, ARowHasTheSameBitsInAnyBatchOnAnyNumberOfThreads) {
  constexpr int kRows = 50;
  Gates alone(kRows, 2, 64, false);
  ThreadPool one(1);
  for (int row = 0; row < kRows; ++row) {
    TimeMixGates g = alone.gates;
    for (float** rows : {&g.w, &g.a, &g.k, &g.v, &g.kk}) *rows += row * 128;
    g.v_mix += row * 128;
    g.v_first += row * 128;
    TimeMixGateRows(g, 1, one);
  }
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Gates together(kRows, 2, 64, false);
    TimeMixGateRows(together.gates, kRows, pool);
    EXPECT_TRUE(SameBits(together.w.data(), alone.w.data(), alone.w.size()));
    EXPECT_TRUE(SameBits(together.a.data(), alone.a.data(), alone.a.size()));
    EXPECT_TRUE(SameBits(together.k.data(), alone.k.data(), alone.k.size()));
    EXPECT_TRUE(SameBits(together.v.data(), alone.v.data(), alone.v.size()));
    EXPECT_TRUE(SameBits(together.kk.data(), alone.kk.data(), alone.kk.size()));
  }
}

TEST_P(ActivationTest, AHeadOfZeroKeysStaysZero) {
  ThreadPool pool(1);
  Gates g(1, 2, 16, true);
  for (int i = 0; i < 16; ++i) g.k[i] = 0.0f;
  TimeMixGateRows(g.gates, 1, pool);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(g.kk[i], 0.0f);
    EXPECT_NE(g.kk[16 + i], 0.0f);
  }
}

// A function of one argument, through the epilogue of a product with the one-by-one identity.
std::vector<float> Apply(Epilogue epilogue, const std::vector<float>& x) {
  const float one = 1.0f;
  const PackedMatrix identity = PackedMatrix::Pack(&one, 1, 1, false, WeightFormat::kFloat32);
  std::vector<float> y(x.size());
  const GemmTask task = {.w = &identity,
                         .x = x.data(),
                         .x_stride = 1,
                         .y = y.data(),
                         .y_stride = 1,
                         .rows = static_cast<int>(x.size()),
                         .epilogue = epilogue};
  ThreadPool pool(1);
  Gemm({&task, 1}, {}, pool);
  return y;
}

std::vector<float> Sweep(float limit) {
  std::vector<float> x;
  for (int i = -40000; i <= 40000; ++i) x.push_back(limit * static_cast<float>(i) / 40000.0f);
  for (float small = limit; small > 1e-38f; small *= 0.93f) {
    x.push_back(small);
    x.push_back(-small);
  }
  return x;
}

TEST_P(ActivationTest, SigmoidIsAccurateToTwoMillionths) {
  const std::vector<float> x = Sweep(87.0f);
  const std::vector<float> y = Apply(Epilogue::kSigmoid, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = SigmoidReference<double>(x[i]);
    ASSERT_LT(std::abs(y[i] - expected), 2e-6 * expected) << x[i];
  }
}

TEST_P(ActivationTest, TanhIsAccurateToTwoMillionths) {
  const std::vector<float> x = Sweep(20.0f);
  const std::vector<float> y = Apply(Epilogue::kTanh, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::tanh(static_cast<double>(x[i]));
    ASSERT_LE(std::abs(y[i] - expected), 2e-6 * std::abs(expected)) << x[i];
  }
}

TEST_P(ActivationTest, ExtremeArgumentsReachTheirLimitsAndNotANumberStays) {
  const float inf = INFINITY;
  const float max = std::numeric_limits<float>::max();
  const std::vector<float> x = {100.0f, -100.0f, 1000.0f, -1000.0f, max, -max, inf, -inf, 0.0f};
  const std::vector<float> sigmoid = Apply(Epilogue::kSigmoid, x);
  const std::vector<float> tanh = Apply(Epilogue::kTanh, x);
  for (size_t i = 0; i + 1 < x.size(); i += 2) {
    EXPECT_EQ(sigmoid[i], 1.0f) << x[i];
    EXPECT_LT(sigmoid[i + 1], 1e-37f) << x[i + 1];
    EXPECT_GE(sigmoid[i + 1], 0.0f) << x[i + 1];
    EXPECT_EQ(tanh[i], 1.0f) << x[i];
    EXPECT_EQ(tanh[i + 1], -1.0f) << x[i + 1];
  }
  EXPECT_EQ(sigmoid.back(), 0.5f);
  EXPECT_EQ(tanh.back(), 0.0f);
  for (const Epilogue epilogue : {Epilogue::kSigmoid, Epilogue::kTanh, Epilogue::kSquaredRelu}) {
    EXPECT_TRUE(std::isnan(Apply(epilogue, {NAN})[0]));
  }
  EXPECT_EQ(Apply(Epilogue::kSquaredRelu, {inf})[0], inf);
  EXPECT_EQ(Apply(Epilogue::kSquaredRelu, {-inf})[0], 0.0f);
}

}  // namespace
}  // namespace dreamstate::kernels
