#include "server/trainer/self_test.h"

#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::trainer {
namespace {

using rwkv::WeightFormat;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr FormatNeed kNeeds[] = {{WeightFormat::kFloat32, 53'000'000'000},
                                 {WeightFormat::kBfloat16, 27'600'000'000}};

TEST(AffordableFormats, AreThoseThatFitTheMemory) {
  EXPECT_THAT(*AffordableFormats(kNeeds, std::nullopt, "f"),
              ElementsAre(WeightFormat::kFloat32, WeightFormat::kBfloat16));
  EXPECT_THAT(*AffordableFormats(kNeeds, 53'000'000'000, "f"),
              ElementsAre(WeightFormat::kFloat32, WeightFormat::kBfloat16));
  EXPECT_THAT(*AffordableFormats(kNeeds, 52'999'999'999, "f"),
              ElementsAre(WeightFormat::kBfloat16));
  EXPECT_THAT(*AffordableFormats(kNeeds, 27'600'000'000, "f"),
              ElementsAre(WeightFormat::kBfloat16));
}

TEST(AffordableFormats, AreNoneForAModelLargerThanTheMemory) {
  for (const int64_t available : {int64_t{27'599'999'999}, int64_t{16'000'000'000}, int64_t{0}}) {
    const absl::Status status = AffordableFormats(kNeeds, available, "13b.pth").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(DetailsOf(status).quota_subject, "memory");
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected 27.6 GB of memory"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("13b.pth"));
  }
}

// A model that is the surer of itself the larger `scale` is, so that a format's error in its logits
// weighs more.
tensors::TensorSet Sure(float scale) {
  const tensors::TensorSet set = testing::RandomBackbone(testing::SmallConfig(), 3);
  auto head = std::make_shared<std::vector<float>>();
  std::vector<tensors::Tensor> list = set.tensors();
  for (tensors::Tensor& tensor : list) {
    if (tensor.name != "head.weight") continue;
    head->resize(static_cast<size_t>(tensor.elements()));
    std::memcpy(head->data(), tensor.data.data(), tensor.data.size());
    for (float& value : *head) value *= scale;
    tensor.data = std::as_bytes(std::span<const float>(*head));
  }
  const auto keeper = std::make_shared<std::pair<tensors::TensorSet, decltype(head)>>(set, head);
  return tensors::TensorSet::Make("sure.pth", std::move(list), {}, keeper).value();
}

TEST(MakeSelfTest, NoToleranceIsMoreThanWhatStillTellsAWrongModel) {
  const std::vector<int32_t> tokens = {0, 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
  const double most = 0.1 * static_cast<double>(tokens.size() - 1);
  bool left_out = false, refused = false;
  for (const float scale : {1.0f, 3.0f, 10.0f, 30.0f, 100.0f, 300.0f, 1000.0f, 3000.0f}) {
    const auto test = MakeSelfTest(Sure(scale), tokens);
    if (!test.ok()) {
      refused = true;
      EXPECT_EQ(test.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(test.status().message()),
                  ::testing::AllOf(HasSubstr("self-test: expected a loss in bf16 within"),
                                   HasSubstr("sure.pth")));
      continue;
    }
    EXPECT_LE(test->tolerance["bf16"].get<double>(), most) << scale;
    left_out |= !test->tolerance.contains("int8");
    if (test->tolerance.contains("int8")) {
      EXPECT_LE(test->tolerance["int8"].get<double>(), most) << scale;
    }
  }
  EXPECT_TRUE(left_out);
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace dreamstate::trainer
