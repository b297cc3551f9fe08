#include "kernels/sampling/log_sum_exp.h"

#include "kernels/sampling/log_sum_exp_reference.h"
#include "tests/kernels/isa_test.h"

namespace dreamstate::kernels {
namespace {

class LogSumExpTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, LogSumExpTest, testing::ValuesIn(AvailableIsas()), IsaTestName);

TEST_P(LogSumExpTest, OddVocabulariesAgreeWithTheReference) {
  ThreadPool pool(2);
  for (const int vocab : {1, 2, 15, 16, 17, 63, 64, 65, 257, 1000, 65536}) {
    for (const int rows : {1, 5, 13}) {
      const int stride = vocab + 3;
      const Misaligned logits = RandomNormal(static_cast<size_t>(rows) * stride, 3, 6.0f);
      std::vector<int32_t> target;
      for (int t = 0; t < rows; ++t) target.push_back(t % 4 == 3 ? -1 : (t * 7919) % vocab);
      Misaligned nll(rows, NAN);
      NegativeLogLikelihood(logits.data(), stride, rows, vocab, target.data(), nll.data(), pool);
      EXPECT_TRUE(nll.GuardsIntact());
      const std::vector<double> doubles = logits.Doubles();
      for (int t = 0; t < rows; ++t) {
        const double expected =
            NegativeLogLikelihoodReference<double>(doubles.data() + t * stride, vocab, target[t]);
        EXPECT_NEAR(nll[t], expected, 4e-6 * (1.0 + std::abs(expected))) << vocab;
      }
    }
  }
}

TEST_P(LogSumExpTest, ARowHasTheSameBitsInAnyBatchOnAnyNumberOfThreads) {
  constexpr int kRows = 33;
  constexpr int kVocab = 1003;
  const Misaligned logits = RandomNormal(kRows * kVocab, 3, 5.0f);
  const std::vector<int32_t> target(kRows, 5);
  std::vector<float> alone(kRows);
  ThreadPool one(1);
  for (int t = 0; t < kRows; ++t) {
    NegativeLogLikelihood(logits.data() + t * kVocab, kVocab, 1, kVocab, target.data(), &alone[t],
                          one);
  }
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<float> together(kRows);
    NegativeLogLikelihood(logits.data(), kVocab, kRows, kVocab, target.data(), together.data(),
                          pool);
    EXPECT_TRUE(SameBits(alone.data(), together.data(), kRows));
  }
}

TEST_P(LogSumExpTest, HugeAndNonFiniteLogitsGiveTheRightLimits) {
  ThreadPool pool(1);
  const auto nll = [&pool](std::vector<float> logits, int32_t target) {
    float result = -1.0f;
    NegativeLogLikelihood(logits.data(), static_cast<int64_t>(logits.size()), 1,
                          static_cast<int>(logits.size()), &target, &result, pool);
    return result;
  };
  EXPECT_EQ(nll({3e38f, -3e38f, 0.0f}, 0), 0.0f);
  EXPECT_NEAR(nll({1e4f, 1e4f}, 1), std::log(2.0), 1e-6);
  EXPECT_EQ(nll({0.0f, -INFINITY}, 0), 0.0f);
  EXPECT_EQ(nll({0.0f, -INFINITY}, 1), INFINITY);
  EXPECT_TRUE(std::isnan(nll({0.0f, NAN, 1.0f}, 0)));
  EXPECT_TRUE(std::isnan(nll({0.0f, INFINITY}, 0)));
  EXPECT_EQ(nll({NAN, NAN}, -1), 0.0f);
}

}  // namespace
}  // namespace dreamstate::kernels
