// gRPC, Protocol Buffers and LibTorch live in one process although libtorch_cpu carries symbols of
// an older protobuf. No translation unit includes both a torch header and a generated one: this
// file includes neither.

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "tests/platform/rpc_side.h"
#include "tests/platform/torch_side.h"

namespace dreamstate::platform {
namespace {

constexpr int kModels = 1000;  // about 100 kB on the wire

TEST(OneProcess, MessagesRoundTripBeforeAndAfterTorchRan) {
  ASSERT_EQ(RoundTripMessages(), "");
  EXPECT_LT(GradientError(), 1e-9);
  EXPECT_EQ(RoundTripMessages(), "");
}

TEST(OneProcess, CallsAnswerBeforeAndAfterTorchTrained) {
  const RpcSide rpc(kModels);
  ASSERT_GT(rpc.answer_bytes(), size_t{100'000});
  ASSERT_EQ(rpc.CallAndCompare(), "");
  const Fit fit = FitLinearModule(50);
  EXPECT_GT(fit.first_loss, 1.0);
  EXPECT_LT(fit.last_loss, 0.5 * fit.first_loss);
  EXPECT_EQ(rpc.CallAndCompare(), "");
}

TEST(OneProcess, CallsAnswerWhileTorchTrains) {
  const RpcSide rpc(kModels);
  Fit fit{};
  std::thread training([&fit] { fit = FitLinearModule(100); });
  std::string failure;
  for (int call = 0; call < 20 && failure.empty(); ++call) failure = rpc.CallAndCompare();
  training.join();
  EXPECT_EQ(failure, "");
  EXPECT_LT(fit.last_loss, 0.5 * fit.first_loss);
}

}  // namespace
}  // namespace dreamstate::platform
