// `dreamstate-trainer evaluate states` on a data set harvested from a small corpus.
#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/core/evaluation/labelled_corpus.h"
#include "tests/server/trainer/program.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::LabelledTexts;
using ::testing::Not;
using testing::RandomText;
using testing::ReadAll;
using testing::Result;
using testing::RunTrainer;
using testing::TemporaryDirectory;

constexpr int kLayers = 12;  // of the model
constexpr char kModel[] = " --repository '" DREAMSTATE_TEST_DATA "/repository' --model tiny";

class EvaluateStatesTest : public ::testing::Test {
 protected:
  EvaluateStatesTest() {
    WriteTexts("corpus", "digits");
    const Result harvest =
        RunTrainer(StrCat("harvest", kModel, " --corpus '", directory_ / "corpus", "' --to '",
                          directory_ / "states", "' --positions 32,64 --excerpts 0 --threads 1"));
    EXPECT_EQ(harvest.code, 0) << harvest.err;
  }

  void WriteTexts(const char* folder, const char* second_label) {
    Draws draws(4, 1, 0);
    LabelledTexts texts;
    for (const char* label : {"letters", second_label}) {
      const std::string_view kinds = *label == 'l' ? "abcdefgh " : "0123456789 ";
      for (int i = 0; i < 3; ++i) texts["train"].push_back({label, RandomText(draws, kinds, 90)});
      for (int i = 0; i < 2; ++i) texts["valid"].push_back({label, RandomText(draws, kinds, 90)});
      texts["test"].push_back({label, RandomText(draws, kinds, 90)});
    }
    std::filesystem::create_directories(directory_ / folder);
    testing::WriteCorpus(directory_ / folder, texts);
  }

  std::string Describe() const {
    return StrCat("evaluate states --states '", directory_ / "states", "' --position 64");
  }
  std::string Measure(const char* corpus = "corpus") const {
    return StrCat(Describe(), kModel, " --corpus '", directory_ / corpus,
                  "' --threads 1 --length 16 --windows 2 --label-documents 3");
  }
  static std::string Refusal(const std::string& arguments, int code = 1) {
    const Result result = RunTrainer(arguments);
    EXPECT_EQ(result.code, code);
    return result.err;
  }

  TemporaryDirectory directory_;
};

TEST_F(EvaluateStatesTest, HeadsAreDescribedWithoutAModel) {
  const Result result = RunTrainer(StrCat(Describe(), " --pictures '", directory_ / "new/pictures",
                                          "' --markdown '", directory_ / "heads.md", "'"));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("at token 64, 4 valid documents of 2 domains"),
                                HasSubstr("layer 11 head 0"), Not(HasSubstr("rank 1"))));
  EXPECT_THAT(ReadAll(directory_ / "heads.md"), HasSubstr("| head | RMS |"));
  for (const char* name : {"rms", "spectral_norm", "stable_rank", "purity"}) {
    EXPECT_THAT(ReadAll(directory_ / StrCat("new/pictures/", name, ".png")), HasSubstr("PNG"));
  }
}

TEST_F(EvaluateStatesTest, WithAModelItSaysWhatTruncationsKeep) {
  const Result result = RunTrainer(Measure() + " --json");
  ASSERT_EQ(result.code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  const auto& heads = json["heads"]["heads"];
  ASSERT_EQ(heads.size() % kLayers, 0u);
  for (const auto& head : heads) {
    EXPECT_GT(head["rms"], 0);
    EXPECT_GE(head["stable_rank"], 1);
    EXPECT_LE(head["purity"], 1);
  }
  const auto& states = json["truncation"]["states"];
  EXPECT_EQ(states["own"]["share"], 1);
  EXPECT_EQ(states["own"]["error"], 0);
  EXPECT_GT(states["rank_1"]["error"], states["rank_4"]["error"]);
  EXPECT_GT(states["codec_1"]["error"], states["codec_3"]["error"]);
  EXPECT_TRUE(states.contains(StrCat("without_layer_", kLayers - 1)));
  EXPECT_EQ(json["truncation"]["position"], 64);
  EXPECT_EQ(json["truncation"]["split"], "valid");
  // The same arguments, the same figures.
  EXPECT_EQ(RunTrainer(Measure() + " --json").out, result.out);
  const Result table = RunTrainer(Measure());
  EXPECT_THAT(table.out, AllOf(HasSubstr("own state, entries shuffled"), HasSubstr("of own"),
                               HasSubstr("strongest 1 of 4 blocks")));
}

TEST_F(EvaluateStatesTest, RefusalsSayWhatIsWrong) {
  EXPECT_THAT(Refusal("evaluate states --states /nowhere"), HasSubstr("/nowhere"));
  EXPECT_THAT(Refusal(StrCat("evaluate states --states '", directory_ / "states", "'")),
              HasSubstr("has states of (32, 64), found 512"));
  WriteTexts("other", "numbers");
  EXPECT_THAT(Refusal(Measure("other")),
              AllOf(HasSubstr("other: expected the corpus that"), HasSubstr("found another one")));
  EXPECT_THAT(Refusal(Measure() + " --split train"), HasSubstr("expected valid or test"));
  EXPECT_THAT(Refusal(Describe() + " --markdown /nowhere/heads.md"),
              HasSubstr("--markdown: /nowhere is no directory"));
  EXPECT_THAT(Refusal(Describe() + " --pictures /dev/null"), HasSubstr("--pictures: expected"));
  EXPECT_THAT(Refusal(StrCat(Describe(), kModel), 2), HasSubstr("requires --corpus"));
}

}  // namespace
}  // namespace dreamstate::trainer
