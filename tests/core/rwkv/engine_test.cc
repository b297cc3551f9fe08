#include "core/rwkv/engine.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "core/rwkv/reference.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/runtime/cpu.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::rwkv {
namespace {

using dreamstate::testing::EngineFixture;
using dreamstate::testing::RandomBackbone;
using dreamstate::testing::SmallConfig;
using ::testing::HasSubstr;

std::vector<int32_t> RandomTokens(int count, uint32_t seed, int vocab = 50) {
  std::mt19937 bits(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(bits() % vocab);
  return tokens;
}

// What goes by this name is held to be equal to the bit.
TEST(EngineNumerics, NameWhichMatricesAreInt8) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 5);
  const std::string isa(kernels::IsaName(kernels::ActiveIsa()));
  kernels::ThreadPool pool(1);
  const auto numerics = [&](WeightFormat format, const FormatPolicy& policy) {
    return Engine(Weights::Load(set, format, policy).value(),
                  {.max_tokens = 1, .max_sequences = 1, .slots = 1}, pool)
        .numerics();
  };
  EXPECT_EQ(numerics(WeightFormat::kInt8, FormatPolicy::Default()), "int8/" + isa);
  EXPECT_EQ(numerics(WeightFormat::kInt8, {}), "int8()/" + isa);
  EXPECT_EQ(numerics(WeightFormat::kBfloat16, FormatPolicy::Default()), "bf16/" + isa);
  EXPECT_EQ(numerics(WeightFormat::kFloat32, {}), "fp32/" + isa);
  const std::string names[kMatrixKinds] = {"kvoKVh", "rvoKVh", "rkoKVh", "rkvKVh",
                                           "rkvoVh", "rkvoKh", "rkvoKV"};
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    FormatPolicy policy = FormatPolicy::Default();
    policy.int8[kind] = false;
    EXPECT_EQ(numerics(WeightFormat::kInt8, policy), "int8(" + names[kind] + ")/" + isa);
  }
}

// Every combination of weight format and instruction set of this machine.
class EngineEverywhere : public ::testing::TestWithParam<std::tuple<WeightFormat, kernels::Isa>> {
 protected:
  void SetUp() override {
    if (std::get<1>(GetParam()) > kernels::BestIsa())
      GTEST_SKIP() << "this processor lacks " << kernels::IsaName(std::get<1>(GetParam()));
    kernels::SetActiveIsaForTesting(std::get<1>(GetParam()));
  }
  void TearDown() override { kernels::SetActiveIsaForTesting(kernels::BestIsa()); }
  WeightFormat format() const { return std::get<0>(GetParam()); }
};

TEST_P(EngineEverywhere, OddSizesAgreeWithTheReference) {
  for (Config config : {SmallConfig(), [] {
                          Config one = SmallConfig();
                          one.layers = 1;
                          one.rank_value = 0;
                          one.head_size = 32;
                          one.heads = 3;
                          one.width = 96;
                          one.vocab = 7;
                          one.ffn_width = 101;
                          one.rank_decay = 1;
                          return one;
                        }()}) {
    const tensors::TensorSet set = RandomBackbone(config, 5);
    const ReferenceEngine reference = ReferenceEngine::Load(set).value();
    std::vector<double> shift(config.shift_elements());
    std::vector<double> wkv(config.wkv_elements());
    const std::vector<int32_t> tokens = RandomTokens(37, 1, config.vocab);
    const std::vector<double> expected = reference.Forward(tokens, shift, wkv);
    EngineFixture fixture(set, format());
    ASSERT_EQ(fixture.engine.config(), config);
    const std::vector<float> logits = fixture.Read(0, tokens, 64);
    const double tolerance = format() == WeightFormat::kFloat32    ? 2e-5
                             : format() == WeightFormat::kBfloat16 ? 0.1
                                                                   : 0.25;
    for (int i = 0; i < config.vocab; ++i)
      EXPECT_NEAR(logits[i], expected[expected.size() - config.vocab + i], tolerance);
    const std::vector<float> state = fixture.State(0);
    for (size_t i = 0; i < wkv.size(); ++i)
      ASSERT_NEAR(state[shift.size() + i], wkv[i], tolerance) << "wkv element " << i;
  }
}

TEST_P(EngineEverywhere, AnySplitOfASequenceAgreesToTheBit) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 3), format());
  const std::vector<int32_t> tokens = RandomTokens(61, 2);
  const std::vector<float> logits = fixture.Read(0, tokens, 64);
  const std::vector<float> state = fixture.State(0);
  for (const size_t step : {1, 2, 3, 7, 16, 33, 60}) {
    fixture.engine.slots().Clear(1);
    EXPECT_EQ(fixture.Read(1, tokens, step), logits) << "steps of " << step;
    EXPECT_EQ(fixture.State(1), state) << "steps of " << step;
  }
}

TEST_P(EngineEverywhere, ASequenceIsTheSameToTheBitInAnyBatch) {
  const tensors::TensorSet set = RandomBackbone(SmallConfig(), 4);
  EngineFixture alone(set, format(), {}, 1);
  EngineFixture together(set, format(), {}, 3);
  std::mt19937 bits(9);
  constexpr int kSequences = 17;
  std::vector<std::vector<int32_t>> documents;
  for (int i = 0; i < kSequences; ++i)
    documents.push_back(RandomTokens(1 + static_cast<int>(bits() % 40), 100 + i));
  std::vector<size_t> done(kSequences, 0);
  std::vector<std::vector<float>> logits(kSequences,
                                         std::vector<float>(alone.engine.config().vocab));
  // Each round advances a random subset by random amounts.
  for (bool any = true; any;) {
    any = false;
    std::vector<Segment> batch;
    for (int i = 0; i < kSequences; ++i) {
      const size_t left = documents[i].size() - done[i];
      if (left == 0) continue;
      any = true;
      if (bits() % 3 == 0) continue;
      const size_t count = 1 + bits() % std::min<size_t>(left, 20);
      Segment segment;
      segment.slot = i;
      segment.tokens = std::span<const int32_t>(documents[i]).subspan(done[i], count);
      segment.logits = logits[i].data();
      batch.push_back(segment);
      done[i] += count;
    }
    ASSERT_TRUE(together.engine.Forward(batch).ok());
  }
  for (int i = 0; i < kSequences; ++i) {
    alone.engine.slots().Clear(0);
    EXPECT_EQ(alone.Read(0, documents[i], 64), logits[i]) << "sequence " << i;
    EXPECT_EQ(alone.State(0), together.State(i)) << "sequence " << i;
  }
}

TEST_P(EngineEverywhere, SaveAndLoadAndCopyContinueToTheBit) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 6), format());
  const std::vector<int32_t> tokens = RandomTokens(40, 3);
  const std::vector<float> logits = fixture.Read(0, tokens, 64);
  fixture.engine.slots().Clear(1);
  fixture.Read(1, std::span(tokens).first(23), 64);
  fixture.engine.slots().Copy(1, 2);
  const std::vector<float> saved = fixture.State(1);
  const Config& config = fixture.engine.config();
  const std::span<const float> all(saved);
  fixture.engine.slots().Load(3, all.first(config.shift_elements()),
                              all.subspan(config.shift_elements()));
  for (const int slot : {2, 3}) {
    EXPECT_EQ(fixture.Read(slot, std::span(tokens).subspan(23), 64), logits);
    EXPECT_EQ(fixture.State(slot), fixture.State(0));
  }
}

TEST_P(EngineEverywhere, LastHiddenGivesTheSameLogits) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 7), format());
  const std::vector<int32_t> tokens = RandomTokens(9, 4);
  std::vector<float> logits(50), again(50), hidden(128);
  Segment segment;
  segment.slot = 0;
  segment.tokens = tokens;
  segment.logits = logits.data();
  segment.last_hidden = hidden.data();
  ASSERT_TRUE(fixture.engine.Forward({&segment, 1}).ok());
  fixture.engine.Logits(hidden.data(), 1, again.data());
  EXPECT_EQ(logits, again);
  // A target read beside its context costs the same as one judged from the hidden vector.
  fixture.engine.slots().Clear(1);
  std::vector<int32_t> targets(tokens.size(), -1);
  targets.back() = 31;
  std::vector<float> nll(tokens.size());
  segment.slot = 1;
  segment.targets = targets;
  segment.nll = nll.data();
  ASSERT_TRUE(fixture.engine.Forward({&segment, 1}).ok());
  EXPECT_EQ(fixture.engine.Loss(again.data(), 31), nll.back());
}

TEST_P(EngineEverywhere, LogitsOfABatchGoWhereEachIsWanted) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 12), format());
  constexpr int kVocab = 50;
  constexpr int kSequences = 3;
  const std::vector<int32_t> tokens = RandomTokens(kSequences, 11);
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < kSequences; ++i) {
    fixture.engine.slots().Clear(0);
    expected.push_back(fixture.Read(0, std::span(tokens).subspan(i, 1), 1));
  }
  // Where each sequence's logits begin; -1 wants the hidden vector instead.
  for (const std::vector<int>& offsets : std::vector<std::vector<int>>{
           {0, 50, 100}, {0, 60, 120}, {0, 50, 170}, {100, 50, 0}, {0, -1, 50}, {60, 0, 120}}) {
    std::vector<float> memory(230, -1.0f);
    std::vector<float> hidden(128);
    std::vector<Segment> batch(kSequences);
    for (int i = 0; i < kSequences; ++i) {
      fixture.engine.slots().Clear(i);
      batch[i].slot = i;
      batch[i].tokens = std::span(tokens).subspan(i, 1);
      if (offsets[i] < 0) {
        batch[i].last_hidden = hidden.data();
      } else {
        batch[i].logits = memory.data() + offsets[i];
      }
    }
    ASSERT_TRUE(fixture.engine.Forward(batch).ok());
    size_t written = 0;
    for (int i = 0; i < kSequences; ++i) {
      if (offsets[i] < 0) continue;
      const auto begin = memory.begin() + offsets[i];
      EXPECT_EQ(std::vector<float>(begin, begin + kVocab), expected[i]) << "sequence " << i;
      written += kVocab;
    }
    EXPECT_EQ(memory.size() - std::count(memory.begin(), memory.end(), -1.0f), written);
  }
}

TEST_P(EngineEverywhere, LossesOfTargetsFollowFromTheLogits) {
  // Fewer rows of logits at a time than tokens, so that chunks are crossed.
  EngineFixture fixture(RandomBackbone(SmallConfig(), 8), format(),
                        {.max_tokens = 64, .max_sequences = 5, .slots = 5});
  const std::vector<int32_t> tokens = RandomTokens(23, 5);
  std::vector<int32_t> targets = RandomTokens(23, 6);
  targets[4] = -1;
  std::vector<float> nll(23);
  Segment segment;
  segment.slot = 0;
  segment.tokens = tokens;
  segment.targets = targets;
  segment.nll = nll.data();
  ASSERT_TRUE(fixture.engine.Forward({&segment, 1}).ok());
  fixture.engine.slots().Clear(1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::vector<float> logits = fixture.Read(1, std::span(tokens).subspan(i, 1), 1);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(nll[i], targets[i] < 0 ? 0.0 : std::log(sum) - logits[targets[i]], 1e-5)
        << "token " << i;
  }
}

TEST_P(EngineEverywhere, TapsShowTheResidualStream) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 9), format());
  const std::vector<int32_t> tokens = RandomTokens(6, 7);
  std::vector<float> first(6 * 128), last(6 * 128);
  const std::vector<Tap> taps = {{0, first.data()}, {1, last.data()}};
  Segment segment;
  segment.slot = 0;
  segment.tokens = tokens;
  segment.taps = taps;
  ASSERT_TRUE(fixture.engine.Forward({&segment, 1}).ok());
  EXPECT_NE(first, last);
  // One by one the same rows come out.
  fixture.engine.slots().Clear(1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<float> row(128);
    const std::vector<Tap> tap = {{1, row.data()}};
    Segment single;
    single.slot = 1;
    single.tokens = std::span(tokens).subspan(i, 1);
    single.taps = tap;
    ASSERT_TRUE(fixture.engine.Forward({&single, 1}).ok());
    EXPECT_EQ(row, std::vector<float>(last.begin() + i * 128, last.begin() + (i + 1) * 128));
  }
}

TEST_P(EngineEverywhere, AForwardAllocatesNothing) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 10), format());
  const std::vector<int32_t> tokens = RandomTokens(30, 8);
  std::vector<float> logits(50), hidden(128), nll(30);
  std::vector<Segment> batch(2);
  batch[0].slot = 0;
  batch[0].tokens = tokens;
  batch[0].targets = tokens;
  batch[0].nll = nll.data();
  batch[1].slot = 1;
  batch[1].tokens = std::span(tokens).first(1);
  batch[1].logits = logits.data();
  batch[1].last_hidden = hidden.data();
  ASSERT_TRUE(fixture.engine.Forward(batch).ok());
  const int64_t before = dreamstate::testing::Allocations();
  ASSERT_TRUE(fixture.engine.Forward(batch).ok());
  EXPECT_EQ(dreamstate::testing::Allocations(), before);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, EngineEverywhere,
    ::testing::Combine(::testing::Values(WeightFormat::kFloat32, WeightFormat::kBfloat16,
                                         WeightFormat::kInt8),
                       ::testing::Values(kernels::Isa::kReference, kernels::Isa::kAvx2,
                                         kernels::Isa::kAvx512, kernels::Isa::kAvx512Vnni,
                                         kernels::Isa::kAvx512Bf16, kernels::Isa::kAmx)),
    [](const auto& test) {
      return std::string(WeightFormatName(std::get<0>(test.param))) + "_" +
             std::string(kernels::IsaName(std::get<1>(test.param)));
    });

TEST(Engine, RefusesWhatIsOutOfRangeAndChangesNothing) {
  EngineFixture fixture(RandomBackbone(SmallConfig(), 11), WeightFormat::kFloat32,
                        {.max_tokens = 8, .max_sequences = 2, .slots = 3});
  const std::vector<int32_t> good = {1, 2, 3};
  fixture.Read(0, good, 3);
  const std::vector<float> state = fixture.State(0);
  float value = 0;
  const auto segment = [&](int slot, const std::vector<int32_t>& tokens) {
    Segment result;
    result.slot = slot;
    result.tokens = tokens;
    return result;
  };
  const std::vector<int32_t> negative = {-1};
  const std::vector<int32_t> beyond = {50};
  const std::vector<int32_t> none;
  const std::vector<int32_t> long_text(9, 1);
  const std::vector<int32_t> bad_target = {50, 0, 0};
  const std::vector<Tap> bad_tap = {{2, &value}};
  Segment targets = segment(0, good);
  targets.targets = bad_target;
  targets.nll = &value;
  Segment too_few_targets = segment(0, good);
  too_few_targets.targets = std::span(good).first(2);
  too_few_targets.nll = &value;
  Segment tap = segment(0, good);
  tap.taps = bad_tap;
  const std::vector<std::pair<std::vector<Segment>, std::string>> cases = {
      {{segment(-1, good)}, "slot"},
      {{segment(3, good)}, "slot"},
      {{segment(0, good), segment(0, good)}, "twice"},
      {{segment(0, none)}, "tokens"},
      {{segment(0, negative)}, "token: expected 0 to 49, found -1"},
      {{segment(0, good), segment(1, beyond)}, "found 50"},
      {{segment(0, long_text)}, "at most 8 tokens"},
      {{segment(0, good), segment(1, good), segment(2, good)}, "at most 2 sequences"},
      {{targets}, "target"},
      {{too_few_targets}, "as many as tokens"},
      {{tap}, "tap layer"},
  };
  for (const auto& [batch, message] : cases) {
    const absl::Status status = fixture.engine.Forward(batch);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  EXPECT_EQ(fixture.State(0), state);
  EXPECT_TRUE(fixture.engine.Forward({}).ok());
}

}  // namespace
}  // namespace dreamstate::rwkv
