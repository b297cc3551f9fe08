#include "core/evaluation/reader.h"

#include <cmath>
#include <vector>

#include "core/base/draws.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::evaluation {
namespace {

using ::dreamstate::testing::EngineFixture;
using ::dreamstate::testing::RandomBackbone;
using ::dreamstate::testing::SmallConfig;
using ::testing::HasSubstr;

class ReaderTest : public ::testing::Test {
 protected:
  static std::vector<int32_t> Tokens(int count, uint32_t stream) {
    Draws draws(11, 1, stream);
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(draws.Below(50));
    return tokens;
  }

  const tensors::TensorSet set_ = RandomBackbone(SmallConfig(), 3);
  kernels::ThreadPool pool_{2};
  std::shared_ptr<const rwkv::Weights> weights_ =
      rwkv::Weights::Load(set_, rwkv::WeightFormat::kFloat32).value();
  Reader reader_{weights_, {.sequences = 4, .tokens = 24}, pool_};
};

TEST_F(ReaderTest, LossesAreThoseOfTheLogits) {
  const std::vector<int32_t> context = Tokens(5, 0), scored = Tokens(40, 1);
  const Reading reading = {.context = context, .scored = scored};
  const auto results = reader_.Read({&reading, 1});
  ASSERT_TRUE(results.ok()) << results.status();
  const std::vector<float>& nll = results->front().nll;
  ASSERT_EQ(nll.size(), scored.size());
  EngineFixture engine(set_, rwkv::WeightFormat::kFloat32);
  std::vector<float> logits = engine.Read(0, context, 64);
  for (size_t i = 0; i < scored.size(); ++i) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(nll[i], std::log(sum) - logits[scored[i]], 1e-4) << i;
    logits = engine.Read(0, {&scored[i], 1}, 1);
  }
}

TEST_F(ReaderTest, ResultsAreTheSameInAnyCompany) {
  std::vector<Reading> readings;
  for (int i = 0; i < 15; ++i) {
    readings.push_back(
        {.context = Tokens(1 + i * 7 % 40, i), .scored = Tokens(i * 13 % 70, 90 + i)});
    readings.back().harvest = readings.back().scored.empty();
  }
  int64_t tokens = 0, expected = 0;
  const auto together = reader_.Read(readings, [&tokens](int64_t more) { tokens += more; });
  ASSERT_TRUE(together.ok()) << together.status();
  for (size_t i = 0; i < readings.size(); ++i) {
    const Reading& reading = readings[i];
    expected += static_cast<int64_t>(reading.context.size() + reading.scored.size()) -
                (reading.scored.empty() ? 0 : 1);
    const auto alone = reader_.Read({&reading, 1});
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ(alone->front().nll, (*together)[i].nll) << i;
    EXPECT_EQ(alone->front().harvested.state, (*together)[i].harvested.state) << i;
    EXPECT_EQ(alone->front().harvested.last_hidden, (*together)[i].harvested.last_hidden) << i;
  }
  EXPECT_EQ(tokens, expected);
}

TEST_F(ReaderTest, AStateContinuesItsTextToTheBit) {
  const std::vector<int32_t> context = Tokens(33, 0), scored = Tokens(20, 1);
  const std::vector<Reading> whole = {{.context = context, .scored = scored},
                                      {.context = context, .harvest = true}};
  const auto results = reader_.Read(whole);
  ASSERT_TRUE(results.ok()) << results.status();
  const Reading rest = {.from = &(*results)[1].harvested, .context = {}, .scored = scored};
  const auto continued = reader_.Read({&rest, 1});
  ASSERT_TRUE(continued.ok()) << continued.status();
  EXPECT_EQ(continued->front().nll, results->front().nll);
  // One token alone is predicted from the state without reading anything.
  const Reading first = {.from = rest.from, .context = {}, .scored = {scored.front()}};
  const auto predicted = reader_.Read({&first, 1});
  ASSERT_TRUE(predicted.ok()) << predicted.status();
  EXPECT_EQ(predicted->front().nll, std::vector<float>{results->front().nll.front()});
  // A state matters: from nothing the same text costs something else.
  const Reading fresh = {.context = {0}, .scored = scored};
  EXPECT_NE(reader_.Read({&fresh, 1})->front().nll, results->front().nll);
}

TEST_F(ReaderTest, RefusesWhatItCannotRead) {
  const auto refusal = [this](const Reading& reading) {
    return std::string(reader_.Read({&reading, 1}).status().message());
  };
  EXPECT_THAT(refusal({.context = {3, 50}}), HasSubstr("expected 0 to 49, found 50"));
  EXPECT_THAT(refusal({.context = {3}, .scored = {-1}}), HasSubstr("found -1"));
  EXPECT_THAT(refusal({.context = {}, .scored = {1}}), HasSubstr("first token"));
  EXPECT_THAT(refusal({.context = {1}, .scored = {1}, .harvest = true}), HasSubstr("harvest"));
  Harvested other;
  other.state = state::State::Empty({.layers = 1, .width = 64, .heads = 1, .head_size = 64});
  EXPECT_THAT(refusal({.from = &other, .context = {1}}), HasSubstr("found 1, 1 and 64"));
}

}  // namespace
}  // namespace dreamstate::evaluation
