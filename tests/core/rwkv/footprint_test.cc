#include "core/rwkv/footprint.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::rwkv {
namespace {

using testing::RandomBackbone;
using testing::SmallConfig;

TEST(EstimateLoadBytes, IsAboveWhatIsHeldAndNotFarAbove) {
  Config large = SmallConfig();
  large.width = 512;
  large.heads = 8;
  large.ffn_width = 2048;
  large.layers = 4;
  large.vocab = 4096;
  for (const Config& config : {SmallConfig(), large}) {
    const tensors::TensorSet set = RandomBackbone(config, 1);
    int64_t largest = 0;
    for (const tensors::Tensor& tensor : set.tensors()) {
      largest = std::max(largest, tensor.elements() * int64_t{4});
    }
    FormatPolicy some = FormatPolicy::Default();
    some.int8[static_cast<size_t>(MatrixKind::kHead)] = false;
    some.int8[static_cast<size_t>(MatrixKind::kFfnKey)] = false;
    for (const WeightFormat format :
         {WeightFormat::kFloat32, WeightFormat::kBfloat16, WeightFormat::kInt8}) {
      for (const FormatPolicy& policy : {FormatPolicy::Default(), some}) {
        const auto weights = Weights::Load(set, format, policy);
        ASSERT_TRUE(weights.ok()) << weights.status();
        const int64_t held = static_cast<int64_t>((*weights)->bytes) + largest;
        const int64_t estimate = EstimateLoadBytes(set, format, policy);
        EXPECT_GE(estimate, held);
        // Slack behind each matrix weighs only where matrices are small.
        EXPECT_LE(estimate, config.width > 128 ? held + held / 32 : held + held / 4);
      }
    }
  }
}

TEST(EstimateLoadBytes, ReadsNoData) {
  // As large as the largest published model, and not there.
  constexpr int64_t kVocab = 65536, kWidth = 4096;
  const std::byte* nowhere = nullptr;
  const auto set = tensors::TensorSet::Make("none",
                                            {{.name = "emb.weight",
                                              .dtype = tensors::DType::kBF16,
                                              .shape = {kVocab, kWidth},
                                              .data = {nowhere, kVocab * kWidth * 2}}},
                                            {}, nullptr);
  ASSERT_TRUE(set.ok());
  EXPECT_NEAR(static_cast<double>(EstimateLoadBytes(*set, WeightFormat::kFloat32)),
              8.0 * kVocab * kWidth, 0.01 * 8 * kVocab * kWidth);
  EXPECT_NEAR(static_cast<double>(EstimateLoadBytes(*set, WeightFormat::kBfloat16)),
              6.0 * kVocab * kWidth, 0.01 * 6 * kVocab * kWidth);
}

TEST(EstimateLoadBytes, OfNothingIsNothingWhateverItsOtherSizes) {
  const auto set = tensors::TensorSet::Make("none",
                                            {{.name = "head.weight",
                                              .dtype = tensors::DType::kBF16,
                                              .shape = {INT64_MAX, 0},
                                              .data = {}}},
                                            {}, nullptr);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(EstimateLoadBytes(*set, WeightFormat::kBfloat16), 0);
}

}  // namespace
}  // namespace dreamstate::rwkv
