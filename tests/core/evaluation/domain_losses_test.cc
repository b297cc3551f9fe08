#include "core/evaluation/domain_losses.h"

#include <cmath>
#include <memory>
#include <string>
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

class DomainLossesTest : public ::testing::Test {
 protected:
  absl::StatusOr<DomainLosses> Measure(const LabelledTexts& texts, const DomainOptions& options) {
    TemporaryDirectory directory;
    WriteCorpus(directory.path(), texts);
    const auto corpus = training::Corpus::Open(directory.path());
    if (!corpus.ok()) return corpus.status();
    return MeasureDomains({.reader = reader_, .tokenizer = *tokenizer_, .corpus = **corpus},
                          options);
  }
  // What a text costs behind the separator, in bits, read alone.
  double Bits(std::string_view text) {
    const Reading reading = {.context = {0}, .scored = {text.begin(), text.end()}};
    double bits = 0;
    const auto results = reader_.Read({&reading, 1});
    for (const float nll : results->front().nll) bits += nll / std::log(2.0);
    return bits;
  }

  kernels::ThreadPool pool_{2};
  Reader reader_{
      rwkv::Weights::Load(RememberingBackbone(), rwkv::WeightFormat::kFloat32).value(), {}, pool_};
  const std::unique_ptr<const text::Tokenizer> tokenizer_ = text::MakeByteTokenizer();
};

TEST_F(DomainLossesTest, DomainsAreSummedAndMeansKeepThemApart) {
  const std::string one = "abababab", two = "aaaaabbbbbaaaa", three = "mnopmnopmnop";
  const std::string odd = "xxxxyyyyzzzz";
  const auto losses = Measure(
      {{"train", {{"first", "ab"}, {"second", "mn"}}},
       {"test", {{"first", one}, {"second", three}, {"first", two}, {"odd", odd}, {"second", ""}}}},
      {});
  ASSERT_TRUE(losses.ok()) << losses.status();
  ASSERT_EQ(losses->domains.size(), 3u);
  const DomainLoss &first = losses->domains[0], &second = losses->domains[2];
  EXPECT_EQ(first.label, "first");
  EXPECT_EQ(first.documents, 2);
  EXPECT_EQ(first.bytes, 22);
  EXPECT_NEAR(first.bits_per_byte, (Bits(one) + Bits(two)) / 22, 1e-6);
  EXPECT_LE(first.interval.low, first.bits_per_byte);
  EXPECT_GE(first.interval.high, first.bits_per_byte);
  EXPECT_EQ(second.documents, 1);
  EXPECT_NEAR(second.bits_per_byte, Bits(three) / 12, 1e-6);
  EXPECT_TRUE(second.trained);
  EXPECT_FALSE(losses->domains[1].trained);  // odd
  EXPECT_EQ(losses->trained.domains, 2);
  EXPECT_NEAR(losses->trained.bits_per_byte, (first.bits_per_byte + second.bits_per_byte) / 2,
              1e-9);
  EXPECT_EQ(losses->shifted.domains, 1);
  EXPECT_NEAR(losses->shifted.bits_per_byte, Bits(odd) / 12, 1e-6);
  EXPECT_EQ(losses->tokens, 46);
}

TEST_F(DomainLossesTest, LimitsCutDocumentsAndDomains) {
  Draws draws(5, 1, 0);
  const std::string one = RandomText(draws, "abcd", 100), two = RandomText(draws, "efgh", 100);
  const LabelledTexts texts = {{"train", {{"a", "x"}}},
                               {"test", {{"a", one}, {"a", two}, {"a", one}, {"a", two}}}};
  DomainOptions options;
  options.limits = {.document_bytes = 40, .label_bytes = 100};
  const auto losses = Measure(texts, options);
  ASSERT_TRUE(losses.ok()) << losses.status();
  ASSERT_EQ(losses->domains.size(), 1u);
  EXPECT_EQ(losses->domains[0].documents, 3);
  EXPECT_EQ(losses->domains[0].bytes, 100);
  EXPECT_NEAR(losses->domains[0].bits_per_byte,
              (Bits(one.substr(0, 40)) + Bits(two.substr(0, 40)) + Bits(one.substr(0, 20))) / 100,
              1e-6);
}

// A document begins from nothing, whatever was read before it.
TEST_F(DomainLossesTest, DocumentsKnowNothingOfEachOther) {
  const LabelledTexts alone = {{"train", {{"a", "x"}, {"b", "x"}}}, {"test", {{"b", "klklklkl"}}}};
  LabelledTexts together = alone;
  for (int i = 0; i < 40; ++i) together["test"].push_back({"a", "klkl"});
  EXPECT_EQ(Measure(alone, {})->domains[0].bits_per_byte,
            Measure(together, {})->domains[1].bits_per_byte);
}

TEST_F(DomainLossesTest, SplitIsTheOneAskedFor) {
  const LabelledTexts texts = {
      {"train", {{"a", "aa"}}}, {"valid", {{"a", "abab"}}}, {"test", {{"a", "abcdefgh"}}}};
  DomainOptions options;
  options.split = training::Split::kValid;
  EXPECT_EQ(Measure(texts, options)->domains[0].bytes, 4);
  options.split = training::Split::kTest;
  EXPECT_EQ(Measure(texts, options)->domains[0].bytes, 8);
}

TEST_F(DomainLossesTest, NothingToMeasureIsSaid) {
  const auto losses = Measure({{"train", {{"a", "aa"}}}}, {});
  EXPECT_EQ(losses.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(losses.status().message()), HasSubstr("split test"));
}

TEST_F(DomainLossesTest, TableAndJsonSayTheSame) {
  const auto losses =
      Measure({{"train", {{"a", "x"}}}, {"test", {{"a", "abab"}, {"odd", "xyxy"}}}}, {});
  ASSERT_TRUE(losses.ok()) << losses.status();
  const std::string text = DomainTable(*losses, {}).ToText();
  EXPECT_THAT(text, HasSubstr("first 8192 bytes of a document, at most 65536 of a domain"));
  EXPECT_THAT(text, HasSubstr(ShowBits(losses->trained.bits_per_byte)));
  EXPECT_THAT(text, HasSubstr("mean of 1 shifted"));
  const auto json = DomainJson(*losses, {});
  EXPECT_EQ(json["domains"].size(), 2u);
  EXPECT_EQ(json["domains"][0]["bits_per_byte"], losses->domains[0].bits_per_byte);
  EXPECT_EQ(json["trained"]["domains"], 1);
  EXPECT_EQ(json["shifted"]["interval"][0], losses->shifted.interval.low);
}

}  // namespace
}  // namespace dreamstate::evaluation
