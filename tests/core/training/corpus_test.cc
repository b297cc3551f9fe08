#include "core/training/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "core/training/corpus_builder.h"
#include "core/training/near_duplicates.h"
#include "core/training/sources.h"
#include "core/training/token_file.h"
#include "nlohmann/json.hpp"
#include "tests/core/training/made_corpus.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::training {
namespace {

using dreamstate::testing::TemporaryDirectory;
using ::testing::HasSubstr;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class CorpusTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return directory_ / name; }
  TemporaryDirectory directory_;
};

TEST_F(CorpusTest, WhatIsBuiltIsReadBack) {
  WriteTexts(Path("texts"), 60);
  WriteText(Path("texts/alpha/source.json"), R"({"source":"made","version":"1","licence":"none"})");
  const auto reports = BuildCorpus(Path("texts"), Path("corpus"), {}, nullptr).value();
  ASSERT_EQ(reports.size(), 3u);
  const auto corpus = Corpus::Open(Path("corpus")).value();
  EXPECT_THAT(corpus->labels(), ::testing::ElementsAre("alpha", "beta", "x_gamma"));
  EXPECT_TRUE(corpus->trained(0));
  EXPECT_FALSE(corpus->trained(2));
  int documents = 0;
  for (const Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
    for (const Document& document : corpus->documents(split)) {
      ++documents;
      EXPECT_FALSE(split == Split::kTrain && document.label == 2);
      std::string text;
      for (const uint16_t token : corpus->tokens(split, document)) {
        text += static_cast<char>(token);
      }
      EXPECT_EQ(text,
                ReadAll(Path("texts/" + corpus->labels()[document.label] + "/" + document.name)));
    }
  }
  EXPECT_EQ(documents, 180);
  EXPECT_THAT(ReadAll(Path("corpus/CARD.md")), HasSubstr("| alpha |"));
  EXPECT_THAT(ReadAll(Path("corpus/CARD.md")), HasSubstr("| made | 1 | none |"));
}

TEST_F(CorpusTest, SameFilesGiveTheSameBytesAndAnotherSeedOtherSplits) {
  WriteTexts(Path("texts"), 40);
  CorpusOptions options;
  ASSERT_TRUE(BuildCorpus(Path("texts"), Path("one"), options, nullptr).ok());
  ASSERT_TRUE(BuildCorpus(Path("texts"), Path("two"), options, nullptr).ok());
  options.seed = 1;
  ASSERT_TRUE(BuildCorpus(Path("texts"), Path("three"), options, nullptr).ok());
  for (const char* file : {"train.bin", "train.idx", "test.documents.jsonl", "card.json"}) {
    EXPECT_EQ(ReadAll(Path("one/") + file), ReadAll(Path("two/") + file)) << file;
  }
  EXPECT_NE(ReadAll(Path("one/train.documents.jsonl")),
            ReadAll(Path("three/train.documents.jsonl")));
}

TEST_F(CorpusTest, NearDuplicatesNeverStraddleSplits) {
  // Forty texts, each six times with a changed line: of each one remains.
  for (int i = 0; i < 40; ++i) {
    const std::string text = MadeText("alpha", i, 4000);
    for (int copy = 0; copy < 6; ++copy) {
      WriteText(Path("texts/alpha/" + std::to_string(i) + "-" + std::to_string(copy)),
                "copy " + std::to_string(copy) + "\n" + text);
    }
  }
  WriteText(Path("texts/alpha/same-a"), MadeText("other", 0, 3000));
  WriteText(Path("texts/alpha/same-b"), MadeText("other", 0, 3000));
  WriteText(Path("texts/alpha/zero"), std::string(3000, '\0'));
  WriteText(Path("texts/alpha/short"), "short");
  const auto reports = BuildCorpus(Path("texts"), Path("corpus"), {}, nullptr).value();
  EXPECT_EQ(reports[0].near_duplicates, 200);
  EXPECT_EQ(reports[0].duplicates, 1);
  EXPECT_EQ(reports[0].with_zero, 1);
  EXPECT_EQ(reports[0].too_short, 1);
  const auto corpus = Corpus::Open(Path("corpus")).value();
  std::set<std::string> originals;
  for (const Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
    for (const Document& document : corpus->documents(split)) {
      EXPECT_TRUE(originals.insert(document.name.substr(0, document.name.find('-'))).second)
          << document.name;
    }
  }
}

TEST_F(CorpusTest, LongFilesGiveOnePieceAtARandomPlace) {
  for (int i = 0; i < 20; ++i) {
    std::string text;
    for (int line = 0; line < 4000; ++line) {
      text += "file " + std::to_string(i) + " line " + std::to_string(line) + "\n";
    }
    WriteText(Path("texts/alpha/" + std::to_string(i)), text);
  }
  CorpusOptions options;
  options.slice_bytes = 5000;
  ASSERT_TRUE(BuildCorpus(Path("texts"), Path("corpus"), options, nullptr).ok());
  const auto corpus = Corpus::Open(Path("corpus")).value();
  std::set<std::string> beginnings;
  for (const Document& document : corpus->documents(Split::kTrain)) {
    EXPECT_LE(document.tokens, 5000);
    std::string text;
    for (const uint16_t token : corpus->tokens(Split::kTrain, document)) {
      text += static_cast<char>(token);
    }
    EXPECT_THAT(text, ::testing::StartsWith("file "));
    beginnings.insert(text.substr(text.find("line"), 9));
  }
  EXPECT_GT(beginnings.size(), 10u);
}

TEST_F(CorpusTest, DamagedFilesAreNamed) {
  MadeCorpus(Path(""), 40);
  const auto with = [&](const std::string& file, const std::function<void(std::string*)>& change) {
    std::filesystem::remove_all(Path("damaged"));
    std::filesystem::copy(Path("corpus"), Path("damaged"));
    std::string text = ReadAll(Path("damaged/" + file));
    change(&text);
    std::ofstream(Path("damaged/" + file), std::ios::binary) << text;
    return std::string(Corpus::Open(Path("damaged")).status().message());
  };
  EXPECT_THAT(with("train.idx", [](std::string* text) { text->resize(20); }),
              HasSubstr("train.idx: expected an index"));
  EXPECT_THAT(with("train.idx", [](std::string* text) { (*text)[17] = 4; }),
              HasSubstr("expected tokens of type 8"));
  EXPECT_THAT(with("train.idx", [](std::string* text) { (*text)[37] = 0x7f; }),
              HasSubstr("train.idx: document 0"));
  EXPECT_THAT(with("train.idx", [](std::string* text) { (*text)[25] = 0x7f; }),
              HasSubstr("expected the size that"));
  EXPECT_THAT(with("train.bin", [](std::string* text) { text->resize(text->size() - 2); }),
              HasSubstr("train.idx"));
  EXPECT_THAT(with("train.bin", [](std::string* text) { (*text)[1] = 1; }),
              HasSubstr("train.bin: token 0: expected less than 256"));
  EXPECT_THAT(with("test.documents.jsonl", [](std::string* text) { text->insert(0, "x"); }),
              HasSubstr("test.documents.jsonl: line 1"));
  EXPECT_THAT(with("test.documents.jsonl", [](std::string* text) { *text = ""; }),
              HasSubstr("documents, found 0"));
  EXPECT_THAT(with("corpus.json", [](std::string* text) { *text = "[]"; }),
              HasSubstr("corpus.json: expected a JSON object"));
  EXPECT_THAT(
      with("corpus.json", [](std::string* text) { *text = R"({"schema": 1, "tokenizer": 4})"; }),
      HasSubstr("tokenizer: missing, or not of its type"));
  EXPECT_THAT(with("corpus.json",
                   [](std::string* text) {
                     *text = R"({"schema": 1, "tokenizer": "byte", "labels": )" +
                             std::string(500000, '[') + std::string(500000, ']') + "}";
                   }),
              HasSubstr("corpus.json: nested too deeply"));
  EXPECT_THAT(
      with("corpus.json", [](std::string* text) { text->replace(text->find("1"), 1, "9"); }),
      HasSubstr("corpus.json"));
  EXPECT_EQ(Corpus::Open(Path("nothing")).status().code(), absl::StatusCode::kNotFound);
}

// Whoever interrupts a copy of a corpus under a run must not train it on zeros.
TEST_F(CorpusTest, AFileThatIsCutWhileItIsReadIsNoticed) {
  MadeCorpus(Path(""), 40);
  const auto corpus = Corpus::Open(Path("corpus")).value();
  EXPECT_TRUE(corpus->CheckNothingLost().ok());
  std::filesystem::resize_file(Path("corpus/train.bin"), 0);
  int64_t sum = 0;
  for (const uint16_t token : corpus->tokens(Split::kTrain)) sum += token;
  EXPECT_EQ(sum, 0);
  const absl::Status status = corpus->CheckNothingLost();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("train.bin: was cut"));
  const auto source = MakeUniformSource(corpus, {.rows = 1, .tokens = 8}, 1).value();
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(CorpusTest, UntrainedLabelsAndFolderNamesAreChecked) {
  WriteTexts(Path("texts"), 40);
  CorpusOptions options;
  options.untrained = {"alph"};
  EXPECT_THAT(
      std::string(BuildCorpus(Path("texts"), Path("new"), options, nullptr).status().message()),
      HasSubstr("untrained: expected labels, found \"alph\"; did you mean"));
  WriteText(Path("texts/\xff/file"), "text");
  EXPECT_THAT(std::string(BuildCorpus(Path("texts"), Path("new"), {}, nullptr).status().message()),
              HasSubstr("\xFF: expected a label's folder to be named in UTF-8"));
}

TEST_F(CorpusTest, SourceFilesAreBounded) {
  WriteTexts(Path("texts"), 40);
  const std::string label = std::filesystem::directory_iterator(Path("texts"))->path().filename();
  WriteText(Path("texts/" + label + "/source.json"),
            "{\"x\": " + std::string(400000, '[') + std::string(400000, ']') + "}");
  EXPECT_THAT(std::string(BuildCorpus(Path("texts"), Path("new"), {}, nullptr).status().message()),
              HasSubstr("source.json: nested too deeply"));
}

TEST_F(CorpusTest, NothingIsBuiltOverSomethingElse) {
  WriteTexts(Path("texts"), 40);
  WriteText(Path("there/file"), "x");
  const auto built = BuildCorpus(Path("texts"), Path("there"), {}, nullptr);
  EXPECT_EQ(built.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(built.status().message()), HasSubstr("expected an empty directory"));
  CorpusOptions options;
  options.test_share = 0;
  EXPECT_THAT(
      std::string(BuildCorpus(Path("texts"), Path("new"), options, nullptr).status().message()),
      HasSubstr("shares: expected"));
}

TEST(NearDuplicates, SimilarityIsThatOfTheTexts) {
  const std::string text = MadeText("a", 1, 8000);
  EXPECT_EQ(Similarity(MakeSketch(text), MakeSketch(text)), 1.0);
  EXPECT_LT(Similarity(MakeSketch(text), MakeSketch(MadeText("b", 2, 8000))), 0.05);
  // Half of the pieces shared, a third of the union.
  const std::string half = text.substr(0, 4000) + MadeText("c", 3, 4000);
  EXPECT_NEAR(Similarity(MakeSketch(text), MakeSketch(half)), 1.0 / 3, 0.15);
  EXPECT_TRUE(MakeSketch("").empty());
}

TEST(TokenFile, ReadsWhatRwkvLmWrites) {
  const TokenFile file = OpenTokenFile(DREAMSTATE_TEST_DATA "/golden/tiny_binidx").value();
  EXPECT_EQ(file.tokens.size(), 6106u);
  int64_t sum = 0;
  for (const int32_t size : file.sizes) sum += size;
  EXPECT_EQ(sum, 6106);
  TemporaryDirectory directory;
  ASSERT_TRUE(WriteTokenFile(directory / "again", file.tokens, file.sizes).ok());
  for (const char* ending : {".bin", ".idx"}) {
    EXPECT_EQ(ReadAll(directory / std::string("again") + ending),
              ReadAll(std::string(DREAMSTATE_TEST_DATA "/golden/tiny_binidx") + ending));
  }
}

}  // namespace
}  // namespace dreamstate::training
