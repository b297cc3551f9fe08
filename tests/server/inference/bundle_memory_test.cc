#include "server/inference/bundle_memory.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::server {
namespace {

using ::testing::HasSubstr;

TEST(EstimateMemory, CoversWhatIsHeld) {
  const rwkv::Config config = testing::SmallConfig();
  const tensors::TensorSet set = testing::RandomBackbone(config, 1);
  for (const auto format :
       {rwkv::WeightFormat::kFloat32, rwkv::WeightFormat::kBfloat16, rwkv::WeightFormat::kInt8}) {
    const SchedulerOptions options = {.slots = 3, .max_step_tokens = 16};
    const auto policy = rwkv::FormatPolicy::Default();
    const MemoryNeed need = EstimateMemory(set, config, format, policy, options);
    const auto held = static_cast<int64_t>(rwkv::Weights::Load(set, format).value()->bytes);
    EXPECT_GE(need.weights, held);
    EXPECT_LE(need.weights, 3 * held);
    EXPECT_GE(need.states, 3 * config.state_bytes());
    EXPECT_GT(need.workspace, 0);
    const MemoryNeed wider = EstimateMemory(set, config, format, policy, {.slots = 6});
    EXPECT_GT(wider.states, need.states);
  }
}

TEST(CheckMemory, NamesWhatIsNeededAndWhatIsThere) {
  const MemoryNeed need = {.weights = 1200, .states = 30, .workspace = 4};
  EXPECT_TRUE(CheckMemory(need, std::nullopt).ok());
  EXPECT_TRUE(CheckMemory(need, 1234 + kMemoryReserveBytes).ok());
  const absl::Status short_of = CheckMemory(need, 1233 + kMemoryReserveBytes);
  EXPECT_EQ(short_of.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(short_of.message()), HasSubstr("needs 1234 bytes (weights 1200"));
  EXPECT_THAT(std::string(short_of.message()),
              HasSubstr("available are " + std::to_string(1233 + kMemoryReserveBytes)));
}

}  // namespace
}  // namespace dreamstate::server
