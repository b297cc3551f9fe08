#include "tests/benchmarks/serve/report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::benchmarks {
namespace {

TEST(Percentile, IsTheSmallestValueThatEnoughDoNotExceed) {
  const std::vector<double> values = {5, 1, 4, 2, 3, 6, 7, 8, 9, 10};
  EXPECT_EQ(Percentile(values, 0.5), 5);
  EXPECT_EQ(Percentile(values, 0.9), 9);
  EXPECT_EQ(Percentile(values, 0.91), 10);
  EXPECT_EQ(Percentile(values, 1), 10);
  EXPECT_EQ(Percentile({7}, 0.01), 7);
  EXPECT_EQ(Percentile({}, 0.5), 0);
}

Sample Decode(double waited_ms, double took_ms, double first_ms, double last_ms, int tokens) {
  return {.kind = 0,
          .waited = absl::Milliseconds(waited_ms),
          .took = absl::Milliseconds(took_ms),
          .outcome = {.first_output = absl::Milliseconds(first_ms),
                      .last_output = absl::Milliseconds(last_ms),
                      .output_tokens = tokens,
                      .input_tokens = 8}};
}

TEST(Summarise, TimesCountFromThePlannedArrivalAndErrorsHaveNone) {
  LoadOptions options;
  options.arrivals_per_second = 10;
  options.mix = {{"decode", 1}, {"get", 1}};
  LoadResult result;
  result.elapsed = absl::Seconds(2);
  result.samples = {Decode(100, 50, 20, 40, 5),
                    {.kind = 1, .waited = {}, .took = absl::Seconds(9), .outcome = {.code = 8}}};
  const nlohmann::ordered_json summary = Summarise(options, result);
  const auto& decode = summary["kinds"][0];
  EXPECT_EQ(decode["call_ms"]["p50"], 150);
  EXPECT_EQ(decode["first_token_ms"]["p99"], 120);
  EXPECT_EQ(decode["token_ms"]["max"], 5);
  EXPECT_EQ(decode["output_tokens_per_second"], 2.5);
  EXPECT_EQ(decode["calls_per_second"], 0.5);
  EXPECT_TRUE(decode["errors"].is_null());
  const auto& get = summary["kinds"][1];
  EXPECT_EQ(get["errors"]["8"], 1);
  EXPECT_TRUE(get["call_ms"].is_null());
  EXPECT_EQ(get["calls"], 1);
  EXPECT_EQ(get["calls_per_second"], 0);
  EXPECT_EQ(summary["kinds"][2]["calls"], 2);
  EXPECT_EQ(summary["kinds"][2]["calls_per_second"], 0.5);
  EXPECT_THAT(Table(summary), ::testing::HasSubstr("errors by code: {\"8\":1}"));
}

TEST(AnySucceeded, IsFalseOfNothingAndOfErrorsAlone) {
  const Sample failed = {.kind = 0, .waited = {}, .took = {}, .outcome = {.code = 14}};
  LoadResult result;
  EXPECT_FALSE(AnySucceeded(result));
  result.samples = {failed, failed};
  EXPECT_FALSE(AnySucceeded(result));
  result.samples.push_back(Decode(0, 1, 1, 1, 1));
  EXPECT_TRUE(AnySucceeded(result));
}

}  // namespace
}  // namespace dreamstate::benchmarks
