// `dreamstate-trainer evaluate backbone` on a small corpus with the model that ships.
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/trainer/evaluate_backbone.h"
#include "tests/core/evaluation/labelled_corpus.h"
#include "tests/server/trainer/program.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::LabelledTexts;
using testing::RandomText;
using testing::ReadAll;
using testing::Result;
using testing::RunTrainer;
using testing::TemporaryDirectory;

constexpr char kRepository[] = DREAMSTATE_TEST_DATA "/repository";
constexpr char kTiny[] = DREAMSTATE_TEST_DATA "/models/tiny-rwkv-7v0-834K-FP32.bin";
constexpr char kSmall[] = " --position 64 --length 24 --windows 2 --label-documents 3";

class EvaluateTest : public ::testing::Test {
 protected:
  EvaluateTest() {
    Draws draws(4, 1, 0);
    LabelledTexts texts;
    for (const char* label : {"letters", "digits"}) {
      const std::string_view kinds = *label == 'l' ? "abcdefgh " : "0123456789 ";
      for (int i = 0; i < 3; ++i) texts["train"].push_back({label, RandomText(draws, kinds, 100)});
      for (int i = 0; i < 2; ++i) texts["test"].push_back({label, RandomText(draws, kinds, 100)});
      texts["valid"].push_back({label, RandomText(draws, kinds, 90)});
    }
    texts["test"].push_back({"signs", RandomText(draws, "+-*/", 50)});
    testing::WriteCorpus(directory_.path(), texts);
  }

  std::string Arguments(std::string_view source) const {
    return StrCat("evaluate backbone ", source, " --corpus '", directory_.path(), "'", kSmall);
  }
  std::string FromRepository() const {
    return Arguments(StrCat("--repository '", kRepository, "' --model tiny"));
  }

  TemporaryDirectory directory_;
};

TEST_F(EvaluateTest, PrintsTables) {
  const Result result =
      RunTrainer(StrCat(FromRepository(), " --markdown '", directory_ / "tables.md",
                        "' --picture '", directory_ / "states.png", "'"));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("tiny version 1, 829888 parameters, bf16/"),
                                HasSubstr("6915bd6ce8a0e6f2"), HasSubstr("mean of 2 trained"),
                                HasSubstr("mean of 1 shifted"), HasSubstr("\nclass mean "),
                                HasSubstr("4 test documents of 2 domains")));
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("bits per byte    100 %  450 of 450 tokens"),
                    HasSubstr("states           100 %"), HasSubstr("state use        100 %")));
  EXPECT_THAT(ReadAll(directory_ / "tables.md"), HasSubstr("| class mean |"));
  EXPECT_THAT(ReadAll(directory_ / "states.png"), ::testing::StartsWith("\x89PNG"));
}

TEST_F(EvaluateTest, JsonHasAllFigures) {
  const Result result = RunTrainer(FromRepository() + " --json --weights fp32");
  EXPECT_EQ(result.code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["domains"]["trained"]["domains"], 2);
  // It was trained very little: see deploy/starter/README.md.
  EXPECT_GT(json["domains"]["trained"]["bits_per_byte"], 4);
  EXPECT_LT(json["domains"]["trained"]["bits_per_byte"], 9);
  EXPECT_EQ(json["states"]["windows"]["digits"], 2);
  for (const char* state : {"own_before", "own_after", "foreign", "class_mean", "wrong_label",
                            "class_mean_constant_shift"}) {
    EXPECT_TRUE(json["states"]["states"][state].contains("interval")) << state;
  }
  // The same model from a file is the same model, and the same figures every time.
  const Result again =
      RunTrainer(Arguments(StrCat("--checkpoint '", kTiny, "'")) + " --json --weights fp32");
  EXPECT_EQ(again.code, 0) << again.err;
  auto other = nlohmann::json::parse(again.out);
  EXPECT_EQ(other["source"], kTiny);
  other["source"] = json["source"];
  EXPECT_EQ(other, json);
}

TEST_F(EvaluateTest, SplitAndPartsAreTheOnesAskedFor) {
  const Result domains = RunTrainer(FromRepository() + " --json --only domains --split valid");
  EXPECT_EQ(domains.code, 0) << domains.err;
  const auto json = nlohmann::json::parse(domains.out);
  EXPECT_EQ(json["domains"]["split"], "valid");
  EXPECT_EQ(json["domains"]["domains"][0]["bytes"], 90);
  EXPECT_FALSE(json.contains("states"));
  const Result limited = RunTrainer(FromRepository() + " --json --only domains --limit 120");
  EXPECT_EQ(nlohmann::json::parse(limited.out)["domains"]["domains"][0]["bytes"], 120);
  const Result states = RunTrainer(FromRepository() + " --json --only states");
  EXPECT_FALSE(nlohmann::json::parse(states.out).contains("domains"));
}

TEST_F(EvaluateTest, RefusalsSayWhatIsWrong) {
  const auto refusal = [](const std::string& arguments, int code) {
    const Result result = RunTrainer(arguments);
    EXPECT_EQ(result.code, code) << arguments;
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  constexpr int kFailed = 1, kUsage = 2;
  EXPECT_THAT(refusal(Arguments(""), kUsage), HasSubstr("found neither"));
  EXPECT_THAT(refusal(Arguments("--repository x"), kUsage), HasSubstr("--model"));
  EXPECT_THAT(refusal("evaluate", kUsage), HasSubstr("subcommand"));
  EXPECT_THAT(refusal(FromRepository() + " --weights int4", kUsage),
              HasSubstr("trainer evaluate backbone: --weights"));
  EXPECT_THAT(refusal(FromRepository() + " --split train", kUsage), HasSubstr("--split"));
  EXPECT_THAT(refusal(FromRepository() + " --version 9", kFailed), HasSubstr("9"));
  EXPECT_THAT(refusal(StrCat("evaluate backbone --checkpoint '", kTiny, "' --corpus '",
                             directory_.path(), "' --only states"),
                      kFailed),
              HasSubstr("a test document of 768 tokens"));
  EXPECT_THAT(
      refusal(StrCat("evaluate backbone --checkpoint '", kTiny, "' --corpus /nowhere"), kFailed),
      HasSubstr("/nowhere/corpus.json"));
  EXPECT_THAT(
      refusal(Arguments(StrCat("--checkpoint '", directory_ / "corpus.json", "'")), kFailed),
      HasSubstr("corpus.json"));
  EXPECT_THAT(
      refusal(Arguments(StrCat("--checkpoint '", kTiny, "' --separator-token 256")), kFailed),
      HasSubstr("separator token: expected 0 to 255, found 256"));
}

TEST_F(EvaluateTest, WhatIsNoFileIsNotReplaced) {
  const std::string pipe = directory_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const char* flag : {"--markdown", "--picture"}) {
    const Result result = RunTrainer(StrCat(FromRepository(), " ", flag, " '", pipe, "'"));
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr(StrCat(flag, ": expected a file or nothing there yet")));
    EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  }
  EXPECT_THAT(RunTrainer(StrCat(FromRepository(), " --markdown /nowhere/table.md")).err,
              HasSubstr("--markdown: /nowhere is no directory"));
}

TEST_F(EvaluateTest, ACorpusOfAnotherTokenizerIsRefused) {
  const std::string path = directory_ / "corpus.json";
  auto json = nlohmann::json::parse(ReadAll(path));
  json["tokenizer"] = "world";
  testing::WriteAll(path, json.dump());
  const Result result = RunTrainer(FromRepository());
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("expected tokens of the tokenizer byte as tiny version 1 has "
                                    "it, found world"));
  EXPECT_THAT(RunTrainer(Arguments(StrCat("--checkpoint '", kTiny, "'"))).err,
              HasSubstr("at most 256 tokens"));
}

}  // namespace
}  // namespace dreamstate::trainer
