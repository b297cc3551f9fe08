#include "kernels/norm/norm.h"

#include "kernels/norm/norm_reference.h"
#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

class NormTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, NormTest, testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(NormTest, LayerNormOfOddWidthsAgreesWithTheReference) {
  ThreadPool pool(2);
  for (const int width : {1, 5, 16, 31, 64, 100, 128, 259, 768}) {
    for (const int rows : {0, 1, 3, 37}) {
      // Not around zero, so that a forgotten mean shows.
      Misaligned x = RandomNormal(static_cast<size_t>(rows) * width, 3);
      for (size_t i = 0; i < x.size(); ++i) x[i] += 5.0f;
      const Misaligned weight = RandomNormal(width, 4);
      const Misaligned bias = RandomNormal(width, 5);
      Misaligned y(x.size());
      LayerNorm(x.data(), weight.data(), bias.data(), 1e-5f, rows, width, y.data(), pool);
      std::vector<double> expected(x.size());
      LayerNormReference<double>(x.Doubles().data(), weight.Doubles().data(), bias.Doubles().data(),
                                 1e-5, rows, width, expected.data());
      EXPECT_LT(LargestError(y.data(), expected.data(), y.size(), 1.0), 2e-5) << width;
      EXPECT_TRUE(y.GuardsIntact());
      LayerNorm(x.data(), weight.data(), bias.data(), 1e-5f, rows, width, x.data(), pool);
      EXPECT_TRUE(SameBits(x.data(), y.data(), y.size())) << "in place";
    }
  }
}

TEST_P(NormTest, ARowHasTheSameBitsInAnyBatchOnAnyNumberOfThreads) {
  constexpr int kRows = 200;
  constexpr int kWidth = 333;
  const Misaligned x = RandomNormal(kRows * kWidth, 3);
  const Misaligned weight = RandomNormal(kWidth, 4);
  const Misaligned bias = RandomNormal(kWidth, 5);
  std::vector<float> alone(kRows * kWidth);
  ThreadPool one(1);
  for (int row = 0; row < kRows; ++row) {
    LayerNorm(x.data() + row * kWidth, weight.data(), bias.data(), 1e-5f, 1, kWidth,
              alone.data() + row * kWidth, one);
  }
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<float> together(kRows * kWidth);
    LayerNorm(x.data(), weight.data(), bias.data(), 1e-5f, kRows, kWidth, together.data(), pool);
    EXPECT_TRUE(SameBits(alone.data(), together.data(), alone.size()));
  }
}

struct Head {
  Head(int rows, int heads, int head_size)
      : weight(RandomNormal(heads * head_size, 1)),
        bias(RandomNormal(heads * head_size, 2)),
        r_k(RandomNormal(heads * head_size, 3)),
        y(RandomNormal(rows * heads * head_size, 4)),
        r(RandomNormal(rows * heads * head_size, 5)),
        k(RandomNormal(rows * heads * head_size, 6)),
        v(RandomNormal(rows * heads * head_size, 7)),
        g(RandomNormal(rows * heads * head_size, 8)),
        inputs{heads,    head_size, 64e-5f,   weight.data(), bias.data(), r_k.data(),
               y.data(), r.data(),  k.data(), v.data(),      g.data()} {}
  Misaligned weight, bias, r_k, y, r, k, v, g;
  GroupNormBonusGate inputs;
};

TEST_P(NormTest, GroupNormBonusGateAgreesWithTheReference) {
  ThreadPool pool(2);
  for (const int head_size : {16, 48, 64, 128}) {
    for (const int rows : {1, 5, 40}) {
      Head head(rows, 3, head_size);
      Misaligned out(head.y.size());
      GroupNormBonusGateRows(head.inputs, rows, out.data(), pool);
      std::vector<double> expected(out.size());
      GroupNormBonusGateReference<double>(3, head_size, 64e-5, head.weight.Doubles().data(),
                                          head.bias.Doubles().data(), head.r_k.Doubles().data(),
                                          head.y.Doubles().data(), head.r.Doubles().data(),
                                          head.k.Doubles().data(), head.v.Doubles().data(),
                                          head.g.Doubles().data(), rows, expected.data());
      EXPECT_LT(LargestError(out.data(), expected.data(), out.size(), 1.0), 2e-5) << head_size;
      EXPECT_TRUE(out.GuardsIntact());
      GroupNormBonusGateRows(head.inputs, rows, head.y.data(), pool);
      EXPECT_TRUE(SameBits(head.y.data(), out.data(), out.size())) << "in place";
    }
  }
}

TEST_P(NormTest, GroupNormRowsHaveTheSameBitsAloneAndTogether) {
  constexpr int kRows = 150;
  Head head(kRows, 4, 64);
  ThreadPool pool(3);
  std::vector<float> together(head.y.size());
  GroupNormBonusGateRows(head.inputs, kRows, together.data(), pool);
  for (int row = 0; row < kRows; ++row) {
    GroupNormBonusGate one = head.inputs;
    for (const float** rows : {&one.y, &one.r, &one.k, &one.v, &one.g}) *rows += row * 256;
    float out[256];
    GroupNormBonusGateRows(one, 1, out, pool);
    ASSERT_TRUE(SameBits(out, together.data() + row * 256, 256));
  }
}

TEST_P(NormTest, ConstantRowsGiveTheBiasAndNotANumberStays) {
  ThreadPool pool(1);
  const std::vector<float> weight(40, 2.0f);
  const std::vector<float> bias(40, 0.5f);
  std::vector<float> x(80, 3.0f);
  x[47] = NAN;
  LayerNorm(x.data(), weight.data(), bias.data(), 1e-5f, 2, 40, x.data(), pool);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(x[i], 0.5f);
    EXPECT_TRUE(std::isnan(x[40 + i]));
  }
}

}  // namespace
}  // namespace dreamstate::kernels
