// The measurement against a backbone of which it is known what of its states is read
// (remembering_backbone.h): they have rank 1, only their first key is read out, and it is a
// sixteenth of the others.
#include "core/evaluation/truncation_cost.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/evaluation/labelled_corpus.h"
#include "tests/core/evaluation/remembering_backbone.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::evaluation {
namespace {

using ::dreamstate::testing::LabelledTexts;
using ::dreamstate::testing::RandomText;
using ::dreamstate::testing::RememberingBackbone;
using ::dreamstate::testing::TemporaryDirectory;
using ::dreamstate::testing::WriteCorpus;
using ::testing::HasSubstr;

constexpr int kPosition = 96, kLength = 40;

LabelledTexts TwoLabels() {
  LabelledTexts texts;
  Draws draws(17, 1, 0);
  const auto add = [&](const char* split, int documents) {
    for (int i = 0; i < documents; ++i) {
      const std::string_view letters = i % 2 == 0 ? "abcdefgh" : "ijklmnop";
      std::string chosen;
      for (const int32_t letter : draws.Choose(5, 8)) chosen += letters[letter];
      texts[split].push_back(
          {i % 2 == 0 ? "alpha" : "beta", RandomText(draws, chosen, kPosition + kLength)});
    }
  };
  add("train", 24);
  add("valid", 20);
  return texts;
}

StateUseOptions Options() {
  StateUseOptions options;
  options.windows.split = training::Split::kValid;
  options.windows.position = kPosition;
  options.windows.length = kLength;
  options.windows.windows_per_label = 10;
  options.windows.label_documents = 12;
  options.bootstrap.resamples = 300;
  return options;
}

TruncationCost Measure() {
  TemporaryDirectory directory;
  WriteCorpus(directory.path(), TwoLabels());
  const auto corpus = training::Corpus::Open(directory.path()).value();
  const std::unique_ptr<const text::Tokenizer> tokenizer = text::MakeByteTokenizer();
  kernels::ThreadPool pool(2);
  Reader reader(rwkv::Weights::Load(RememberingBackbone(), rwkv::WeightFormat::kFloat32).value(),
                {}, pool);
  return MeasureTruncation({.reader = reader, .tokenizer = *tokenizer, .corpus = *corpus},
                           Options())
      .value();
}

// Measured once for all tests, which only read it.
class TruncationCostTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cost_ = Measure(); }
  static const TruncatedWorth& Of(std::string_view id) { return *cost_.Find(id); }

  inline static TruncationCost cost_;
};

TEST_F(TruncationCostTest, WhatIsNotReadMayBeThrownAway) {
  EXPECT_GT(cost_.use.Find("own")->saved.interval.low, 0);
  EXPECT_EQ(Of("own").share, 1);
  EXPECT_EQ(Of("own").interval.low, 1);
  EXPECT_EQ(Of("own").interval.high, 1);
  EXPECT_EQ(Of("own").error, 0);
  // The states have rank 1, and the only layer there is.
  for (const char* id : {"rank_1", "rank_2", "rank_32", "only_layer_0", "codec_4"}) {
    EXPECT_NEAR(Of(id).share, 1, 0.01) << id;
    EXPECT_LE(Of(id).interval.low, Of(id).share) << id;
    EXPECT_GE(Of(id).interval.high, Of(id).share) << id;
  }
  EXPECT_NEAR(Of("rank_1").error, 0, 1e-5);
  EXPECT_NEAR(Of("double").error, 1, 1e-5);
  EXPECT_NEAR(Of("half").error, 0.5, 1e-5);
}

TEST_F(TruncationCostTest, WhatIsReadMayNot) {
  // Nothing is left of the matrices.
  EXPECT_NEAR(Of("without_layer_0").share, 0, 0.05);
  EXPECT_NEAR(Of("without_layer_0").error, 1, 1e-9);
  // The small key is lost beside the large ones, though next to nothing of the energy is.
  for (const char* id : {"four_bit_rows", "ternary_rows", "ternary_rows_by_mean"}) {
    EXPECT_LT(Of(id).error, 0.05) << id;
    EXPECT_LT(Of(id).interval.high, 0.5) << id;
  }
  EXPECT_LT(Of("shuffled").interval.high, 0);
  EXPECT_GT(Of("class_mean").interval.low, 0);
  EXPECT_LT(Of("class_mean").interval.high, 1);
}

TEST_F(TruncationCostTest, SharesAreThoseOfTheBitsSaved) {
  const double own = cost_.use.Find("own")->saved.per_byte;
  for (const StateSection& section : cost_.use.sections) {
    for (const StateWorth& row : section.states) {
      EXPECT_NEAR(Of(row.id).share, row.saved.per_byte / own, 1e-9) << row.id;
    }
  }
}

TEST_F(TruncationCostTest, TablesShowEveryRow) {
  const std::string text = TruncationTable(cost_, Options()).ToText();
  const auto json = TruncationJson(cost_, Options());
  EXPECT_THAT(text, HasSubstr("states at token 96, 20 valid documents of 2 domains"));
  for (const StateSection& section : cost_.use.sections) {
    for (const StateWorth& row : section.states) {
      EXPECT_THAT(text, HasSubstr(row.name));
      EXPECT_EQ(json["states"][row.id]["share"], Of(row.id).share);
      EXPECT_EQ(json["states"][row.id]["saved"], row.saved.per_byte);
    }
  }
  EXPECT_EQ(cost_.worth.size(), 21u);
}

}  // namespace
}  // namespace dreamstate::evaluation
