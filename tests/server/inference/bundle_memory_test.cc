#include "server/inference/bundle_memory.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/random_backbone.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

void Write(const TemporaryDirectory& root, const std::string& path, const std::string& contents) {
  std::filesystem::create_directories(std::filesystem::path(root / path).parent_path());
  testing::WriteAll(root / path, contents);
}

TEST(AvailableMemory, IsTheSystemsWhereNoGroupHasALimit) {
  TemporaryDirectory root;
  EXPECT_EQ(AvailableMemory(root.path()), std::nullopt);
  Write(root, "proc/meminfo",
        "MemTotal:       16000 kB\nMemFree:         10 kB\nMemAvailable:    2000 kB\n");
  EXPECT_EQ(AvailableMemory(root.path()), 2000 * 1024);
  Write(root, "proc/self/cgroup", "0::/a/b\n");
  Write(root, "sys/fs/cgroup/a/b/memory.max", "max\n");
  Write(root, "sys/fs/cgroup/a/b/memory.current", "500\n");
  EXPECT_EQ(AvailableMemory(root.path()), 2000 * 1024);
}

TEST(AvailableMemory, IsTheLeastThatAGroupOnTheWayUpLeaves) {
  TemporaryDirectory root;
  Write(root, "proc/meminfo", "MemAvailable:    2000 kB\n");
  Write(root, "proc/self/cgroup", "0::/a/b\n");
  Write(root, "sys/fs/cgroup/a/b/memory.max", "900000\n");
  Write(root, "sys/fs/cgroup/a/b/memory.current", "500000\n");
  EXPECT_EQ(AvailableMemory(root.path()), 400000);
  // Cached files are given back.
  Write(root, "sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 1000\nactive_file 2000\n");
  EXPECT_EQ(AvailableMemory(root.path()), 403000);
  Write(root, "sys/fs/cgroup/a/memory.max", "500001\n");
  Write(root, "sys/fs/cgroup/a/memory.current", "500000\n");
  EXPECT_EQ(AvailableMemory(root.path()), 1);
  Write(root, "sys/fs/cgroup/a/memory.current", "600000\n");
  EXPECT_EQ(AvailableMemory(root.path()), 0);
}

TEST(AvailableMemory, KnowsTheFirstKindOfGroups) {
  TemporaryDirectory root;
  Write(root, "proc/meminfo", "MemAvailable:    2000 kB\n");
  Write(root, "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/pod\n0::/\n");
  Write(root, "sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "10000\n");
  Write(root, "sys/fs/cgroup/memory/pod/memory.usage_in_bytes", "4000\n");
  EXPECT_EQ(AvailableMemory(root.path()), 6000);
}

TEST(AvailableMemory, SurvivesFilesThatSayNothing) {
  TemporaryDirectory root;
  Write(root, "proc/meminfo", "MemAvailable:\nMemAvailable: x kB\n");
  Write(root, "proc/self/cgroup", "garbage\n::\n0::\n");
  Write(root, "sys/fs/cgroup/memory.max", "");
  EXPECT_EQ(AvailableMemory(root.path()), std::nullopt);
}

TEST(AvailableMemory, IsKnownHere) { EXPECT_GT(AvailableMemory().value_or(1), 0); }

TEST(EstimateMemory, CoversWhatIsHeld) {
  const rwkv::Config config = testing::SmallConfig();
  const tensors::TensorSet set = testing::RandomBackbone(config, 1);
  int64_t parameters = 0;
  for (const tensors::Tensor& tensor : set.tensors()) parameters += tensor.elements();
  for (const auto format : {rwkv::WeightFormat::kFloat32, rwkv::WeightFormat::kBfloat16}) {
    const SchedulerOptions options = {.slots = 3, .max_step_tokens = 16};
    const MemoryNeed need = EstimateMemory(config, parameters, format, options);
    const auto held = static_cast<int64_t>(rwkv::Weights::Load(set, format).value()->bytes);
    EXPECT_GE(need.weights + need.packing, held);
    EXPECT_LE(need.weights, 2 * held);
    EXPECT_GE(need.states, 3 * config.state_bytes());
    EXPECT_GT(need.workspace, 0);
    const MemoryNeed wider = EstimateMemory(config, parameters, format, {.slots = 6});
    EXPECT_GT(wider.states, need.states);
  }
}

TEST(CheckMemory, NamesWhatIsNeededAndWhatIsThere) {
  const MemoryNeed need = {.weights = 1000, .packing = 200, .states = 30, .workspace = 4};
  EXPECT_TRUE(CheckMemory(need, std::nullopt).ok());
  EXPECT_TRUE(CheckMemory(need, 1234 + kMemoryReserveBytes).ok());
  const absl::Status short_of = CheckMemory(need, 1233 + kMemoryReserveBytes);
  EXPECT_EQ(short_of.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(short_of.message()), HasSubstr("needs 1234 bytes (weights 1000"));
  EXPECT_THAT(std::string(short_of.message()),
              HasSubstr("available are " + std::to_string(1233 + kMemoryReserveBytes)));
}

}  // namespace
}  // namespace dreamstate::server
