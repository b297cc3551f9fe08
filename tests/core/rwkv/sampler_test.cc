#include "core/rwkv/sampler.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace dreamstate::rwkv {
namespace {

std::shared_ptr<const text::Tokenizer> Bytes() { return text::MakeByteTokenizer(); }

TEST(Sampler, ProbabilitiesEqualTheReferenceSampler) {
  std::ifstream file(DREAMSTATE_TEST_DATA "/golden/sampler_probs.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  const std::vector<float> logits = golden["logits"];
  ASSERT_FALSE(golden["cases"].empty());
  for (const nlohmann::json& entry : golden["cases"]) {
    SamplingOptions options;
    options.temperature = entry["temperature"];
    options.top_p = entry["top_p"];
    options.top_k = entry["top_k"];
    Sampler sampler(options, 0, static_cast<int>(logits.size()), Bytes());
    std::vector<float> work = logits;
    std::vector<float> probabilities(logits.size());
    sampler.Probabilities(work, probabilities);
    const std::vector<double> expected = entry["probs"];
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(probabilities[i], expected[i], 2e-7)
          << "token " << i << " at temperature " << options.temperature << " top_p "
          << options.top_p << " top_k " << options.top_k;
    }
  }
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(5.0f)};
  Sampler sampler({.seed = 11}, 0, 3, Bytes());
  std::vector<int> counts(3);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> work = logits;
    ++counts[sampler.Sample(work)];
  }
  // Within five standard deviations of a binomial.
  for (int token = 0; token < 3; ++token) {
    const double p = std::exp(logits[token]) / 8.0;
    EXPECT_NEAR(counts[token], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)));
  }
}

TEST(Sampler, SeedBranchAndPositionDecideTheDraw) {
  const std::vector<float> logits(64, 0.0f);
  const auto draw = [&](uint64_t seed, uint32_t branch) {
    Sampler sampler({.seed = seed}, branch, 64, Bytes());
    std::vector<int32_t> tokens;
    for (int i = 0; i < 32; ++i) {
      std::vector<float> work = logits;
      tokens.push_back(sampler.Sample(work));
    }
    return tokens;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 0));
  EXPECT_NE(draw(1, 0), draw(2, 0));
  EXPECT_NE(draw(1, 0), draw(1, 1));
}

TEST(Sampler, MinPDropsWhatIsFarBelowTheBest) {
  Sampler sampler({.min_p = 0.5f}, 0, 4, Bytes());
  std::vector<float> logits = {0.0f, std::log(0.6f), std::log(0.4f), -10.0f};
  std::vector<float> probabilities(4);
  sampler.Probabilities(logits, probabilities);
  EXPECT_NEAR(probabilities[0], 1.0 / 1.6, 1e-6);
  EXPECT_NEAR(probabilities[1], 0.6 / 1.6, 1e-6);
  EXPECT_EQ(probabilities[2], 0.0f);
  EXPECT_EQ(probabilities[3], 0.0f);
}

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
  Sampler sampler({.temperature = 0.0f}, 0, 4, Bytes());
  std::vector<float> logits = {1.0f, 3.0f, 3.0f, 2.0f};
  EXPECT_EQ(sampler.Sample(logits), 1);
}

TEST(Sampler, TheSmallestTemperatureIsGreedy) {
  Sampler sampler({.temperature = std::numeric_limits<float>::denorm_min()}, 0, 3, Bytes());
  std::vector<float> logits = {1.0f, 3.0f, 2.0f};
  EXPECT_EQ(sampler.Sample(logits), 1);
}

TEST(Sampler, PenaltiesDecayAndDoNotCountDigits) {
  SamplingOptions options;
  options.temperature = 0.0f;
  options.presence_penalty = 1.0f;
  options.frequency_penalty = 2.0f;
  options.penalty_decay = 0.5f;
  Sampler sampler(options, 0, 256, Bytes());
  const auto step = [&](float letter, float digit) {
    std::vector<float> logits(256, -50.0f);
    logits['a'] = letter;
    logits['7'] = digit;
    const int32_t token = sampler.Sample(logits);
    return std::make_tuple(token, logits['a'], logits['7']);
  };
  EXPECT_EQ(step(5.0f, 0.0f), std::make_tuple('a', 5.0f, 0.0f));
  // presence 1 + count 1 * frequency 2.
  EXPECT_EQ(step(5.0f, 4.0f), std::make_tuple('7', 2.0f, 4.0f));
  // 'a' decayed to 0.5; '7' was generated but is not counted.
  EXPECT_EQ(step(5.0f, 0.0f), std::make_tuple('a', 3.0f, -1.0f));
}

TEST(Sampler, LogitBiasMovesTheChoice) {
  SamplingOptions options;
  options.temperature = 0.0f;
  options.logit_bias = {{2, 10.0f}, {0, -10.0f}};
  Sampler sampler(options, 0, 3, Bytes());
  std::vector<float> logits = {5.0f, 1.0f, 0.0f};
  EXPECT_EQ(sampler.Sample(logits), 2);
}

TEST(Sampler, LogitsThatAreNotFiniteAreReported) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits : std::vector<std::vector<float>>{
           {0, nan, 1}, {nan, nan, nan}, {0, infinity, 1}, {-infinity, -infinity, -infinity}}) {
    for (const SamplingOptions& options : {SamplingOptions{}, SamplingOptions{.temperature = 0.0f},
                                           SamplingOptions{.top_p = 0.5f}}) {
      std::vector<float> work = logits;
      EXPECT_EQ(Sampler(options, 0, 3, Bytes()).Sample(work), Sampler::kNotFinite);
    }
  }
  std::vector<float> work = {0, -infinity, 1};
  EXPECT_GE(Sampler({}, 0, 3, Bytes()).Sample(work), 0);
}

TEST(ValidateSampling, NamesTheFieldThatIsOutOfRange) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::map<std::string, SamplingOptions> cases = {
      {"temperature", {.temperature = -0.1f}},
      {"top_k", {.top_k = -1}},
      {"top_p", {.top_p = 1.5f}},
      {"min_p", {.min_p = 1.0f}},
      {"presence_penalty", {.presence_penalty = nan}},
      {"frequency_penalty", {.frequency_penalty = 11.0f}},
      {"penalty_decay", {.penalty_decay = -1.0f}},
      {"logit_bias[1].token_id", {.logit_bias = {{0, 1.0f}, {256, 1.0f}}}},
      {"logit_bias[0].bias", {.logit_bias = {{0, 101.0f}}}},
      {"logit_bias", {.logit_bias = {{3, 1.0f}, {3, 2.0f}}}},
  };
  for (const auto& [field, options] : cases) {
    const absl::Status status = ValidateSampling(options, 256);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_EQ(DetailsOf(status).field, field);
  }
  EXPECT_TRUE(ValidateSampling({}, 256).ok());
}

TEST(ComputeLogProbs, ListsTheBestFirst) {
  const std::vector<float> logits = {std::log(1.0f), std::log(4.0f), std::log(3.0f)};
  const LogProbs result = ComputeLogProbs(logits, 0, 2);
  EXPECT_NEAR(result.log_prob, std::log(1.0 / 8), 1e-6);
  ASSERT_EQ(result.top.size(), 2u);
  EXPECT_EQ(result.top[0].first, 1);
  EXPECT_NEAR(result.top[0].second, std::log(0.5), 1e-6);
  EXPECT_EQ(result.top[1].first, 2);
}

}  // namespace
}  // namespace dreamstate::rwkv
