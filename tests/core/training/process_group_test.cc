// What a rank alone can show of the ranks' sums; several are tested by train_test.cc.
#include "core/training/process_group.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/support/http.h"

namespace dreamstate::training {
namespace {

void ExpectSumsAndBroadcasts(torch::Device device) {
  const std::unique_ptr<ProcessGroup> group =
      JoinRanks({.address = "127.0.0.1", .port = testing::FreePort()}, device);
  ASSERT_NE(group, nullptr);
  const torch::Tensor values = torch::arange(1000, torch::TensorOptions().device(device)) / 7.0;
  // Also what lies elsewhere than the group's tensors do.
  for (const torch::Tensor& tensor : {values.clone(), values.to(torch::kCPU)}) {
    const torch::Tensor expected = tensor.clone();
    group->Sum(tensor);
    EXPECT_TRUE(torch::equal(tensor, expected));
    group->Broadcast(tensor);
    EXPECT_TRUE(torch::equal(tensor, expected));
  }
}

TEST(ProcessGroup, GlooSumsAndBroadcasts) { ExpectSumsAndBroadcasts(torch::kCPU); }

#if DREAMSTATE_TORCH_CUDA
TEST(ProcessGroup, NcclSumsAndBroadcasts) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device is here";
  ExpectSumsAndBroadcasts({torch::kCUDA, 0});
}
#endif

}  // namespace
}  // namespace dreamstate::training
