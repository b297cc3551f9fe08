#include "tests/benchmarks/serve/load.h"

#include <algorithm>
#include <atomic>
#include <set>

#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "tests/benchmarks/serve/calls.h"
#include "tests/end_to_end/server_process.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::benchmarks {
namespace {

TEST(Mix, NamesKindsAndWeights) {
  const auto mix = ParseMix("a=3,b", {"a", "b"});
  ASSERT_TRUE(mix.ok());
  EXPECT_EQ((*mix)[0].weight, 3);
  EXPECT_EQ((*mix)[1].weight, 1);
  for (const char* bad : {"", "c", "a=", "a=0", "a=-1", "a=nan", "a=inf", "a=1,", "a=1=2"}) {
    EXPECT_FALSE(ParseMix(bad, {"a", "b"}).ok()) << bad;
  }
}

LoadOptions Options(int64_t calls, double rate) {
  LoadOptions options;
  options.callers = 4;
  options.arrivals_per_second = rate;
  options.duration = absl::InfiniteDuration();
  options.max_calls = calls;
  options.mix = {{"a", 3}, {"b", 1}};
  return options;
}

TEST(Load, BothLoopsMakeEachCallOnceAndTheSameKindsForASeed) {
  std::vector<size_t> kinds[2];
  for (const double rate : {0.0, 1e5}) {
    std::vector<size_t>& seen = kinds[rate > 0];
    seen.assign(400, 99);
    const LoadResult result = RunLoad(Options(400, rate), [&](size_t kind, int64_t number) {
      seen[static_cast<size_t>(number)] = kind;
      return Outcome{};
    });
    EXPECT_EQ(result.samples.size(), 400);
  }
  EXPECT_EQ(kinds[0], kinds[1]);
  const auto b = std::count(kinds[0].begin(), kinds[0].end(), 1u);
  EXPECT_GT(b, 60);
  EXPECT_LT(b, 140);
}

TEST(Load, NeverMoreCallsAtOnceThanCallers) {
  std::atomic<int> now = 0, most = 0;
  RunLoad(Options(200, 0), [&](size_t, int64_t) {
    const int running = ++now;
    int known = most;
    while (running > known && !most.compare_exchange_weak(known, running)) {
    }
    --now;
    return Outcome{};
  });
  EXPECT_LE(most, 4);
}

TEST(Calls, EveryKindAnswersAndLeavesNothingBehind) {
  const dreamstate::testing::TemporaryDirectory directory;
  dreamstate::testing::ServerProcess server(
      {.repository = DREAMSTATE_TEST_DATA "/repository", .store = directory / "store"});
  ASSERT_TRUE(server.WaitUntilListening());
  const auto channel = grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials());
  Calls calls;
  absl::Status ready;
  do {
    ready = calls.Prepare(channel, {.prompt_tokens = 16, .output_tokens = 4, .states = 2});
  } while (absl::IsUnavailable(ready));
  ASSERT_TRUE(ready.ok()) << ready;
  for (const std::string& kind : Calls::Kinds()) {
    const Outcome outcome = calls.Run(kind, 5);
    EXPECT_EQ(outcome.code, 0) << kind;
    EXPECT_EQ(outcome.output_tokens, kind == "decode" || kind == "continue" ? 4 : 0) << kind;
  }
  calls.CleanUp();
  v1::ListStatesResponse left;
  grpc::ClientContext context;
  EXPECT_TRUE(v1::StateService::NewStub(channel)
                  ->ListStates(&context, v1::ListStatesRequest(), &left)
                  .ok());
  EXPECT_EQ(left.states_size(), 0);
  EXPECT_EQ(server.Stop(), 0);
}

}  // namespace
}  // namespace dreamstate::benchmarks
