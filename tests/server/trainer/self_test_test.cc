#include "server/trainer/self_test.h"

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

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

}  // namespace
}  // namespace dreamstate::trainer
