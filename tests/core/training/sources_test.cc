#include "core/training/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "core/training/token_file.h"
#include "nlohmann/json.hpp"
#include "tests/core/training/made_corpus.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::training {
namespace {

using dreamstate::testing::TemporaryDirectory;
using ::testing::HasSubstr;

class SourcesTest : public ::testing::Test {
 protected:
  SourcesTest() : corpus_(MadeCorpus(directory_ / "c")) {}
  TemporaryDirectory directory_;
  std::shared_ptr<const Corpus> corpus_;
};

void ExpectShifted(const Batch& batch) {
  for (int row = 0; row < batch.rows; ++row) {
    for (int t = 0; t + 1 < batch.tokens; ++t) {
      const size_t at = static_cast<size_t>(row) * batch.tokens + t;
      ASSERT_EQ(batch.targets[at], batch.inputs[at + 1]);
    }
  }
}

// Batches as numbers, so that they can be compared.
std::vector<int64_t> Numbers(const Batch& batch) {
  std::vector<int64_t> all(batch.inputs.begin(), batch.inputs.end());
  all.insert(all.end(), batch.targets.begin(), batch.targets.end());
  for (const Row& row : batch.row) {
    all.push_back(row.keep_slot);
    all.push_back(row.label);
    all.insert(all.end(), row.start_slots.begin(), row.start_slots.end());
  }
  return all;
}

void ExpectRestoreContinues(const std::function<std::unique_ptr<BatchSource>()>& make) {
  const auto source = make();
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(source->Next().ok());
  const auto again = make();
  ASSERT_TRUE(again->Restore(source->Save()).ok());
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(Numbers(source->Next().value()), Numbers(again->Next().value()));
  }
  for (const char* wrong : {"", "step", "step -1", "{}", "[1]", "step 1x"}) {
    EXPECT_EQ(again->Restore(wrong).code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(RwkvLmSampling, IsTheOfficialOne) {
  std::ifstream file(DREAMSTATE_TEST_DATA "/golden/dataset_sampling.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  const TokenFile tokens = OpenTokenFile(DREAMSTATE_TEST_DATA "/golden/tiny_binidx").value();
  const auto context = golden.at("ctx_len").get<int64_t>();
  const auto count = golden.at("tokens").get<int64_t>();
  EXPECT_EQ(MagicPrime(count, context), golden.at("magic_prime").get<int64_t>());
  int rows = 0;
  for (const auto& row : golden.at("rows")) {
    const int64_t offset = RwkvLmOffset(count, context, row.at("ii").get<int64_t>());
    ASSERT_EQ(offset, row.at("offset_tokens").get<int64_t>());
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(tokens.tokens[offset + i], row.at("x_first4").at(i).get<int>());
    }
    EXPECT_EQ(tokens.tokens[offset + context], row.at("y_last2").at(1).get<int>());
    ++rows;
  }
  EXPECT_GT(rows, 3);
}

TEST_F(SourcesTest, RwkvLmVisitsEveryWindowOnce) {
  const int64_t tokens = static_cast<int64_t>(corpus_->tokens(Split::kTrain).size());
  const int64_t prime = MagicPrime(tokens, 256);
  std::set<int64_t> seen;
  for (int64_t ii = 1; ii <= prime; ++ii) seen.insert(RwkvLmOffset(tokens, 256, ii));
  EXPECT_EQ(static_cast<int64_t>(seen.size()), prime);
}

TEST_F(SourcesTest, StreamSourcesGiveShiftedWindowsAndContinueWhereTheyWere) {
  const BatchShape shape = {.rows = 3, .tokens = 100};
  ExpectShifted(MakeUniformSource(corpus_, shape, 1).value()->Next().value());
  ExpectRestoreContinues([&] { return MakeUniformSource(corpus_, shape, 1).value(); });
  ExpectRestoreContinues([&] { return MakeRwkvLmSource(corpus_, shape).value(); });
  EXPECT_NE(Numbers(MakeUniformSource(corpus_, shape, 1).value()->Next().value()),
            Numbers(MakeUniformSource(corpus_, shape, 2).value()->Next().value()));
  EXPECT_THAT(
      std::string(MakeUniformSource(corpus_, {.rows = 1, .tokens = 1 << 24}, 1).status().message()),
      HasSubstr("expected a training split of more than"));
}

TEST_F(SourcesTest, StateReadyRowsAreOfOneLabelAndBeginFromKeptStates) {
  const BatchShape shape = {.rows = 16, .tokens = 256};
  StateReadyOptions options;
  options.excerpt_max_tokens = 120;
  const auto source = MakeStateReadySource(corpus_, shape, options, 5).value();
  EXPECT_EQ(source->bank_slots(), 2 * options.slots_per_label);  // x_gamma has no training texts
  std::set<int32_t> kept;
  std::map<int32_t, int32_t> label_of;
  int zero = 0, one = 0, many = 0, keeps = 0, separator_first = 0, rows = 0;
  for (int step = 0; step < 60; ++step) {
    const Batch batch = source->Next().value();
    ExpectShifted(batch);
    std::set<int32_t> now;
    for (int r = 0; r < batch.rows; ++r) {
      const Row& row = batch.row[r];
      const size_t begin = static_cast<size_t>(r) * batch.tokens;
      ASSERT_TRUE(corpus_->trained(row.label));
      for (const int32_t slot : row.start_slots) {
        ASSERT_TRUE(kept.contains(slot)) << "step " << step;
        EXPECT_EQ(label_of[slot], row.label);
      }
      if (row.keep_slot >= 0) {
        EXPECT_EQ(batch.inputs[begin + batch.tokens - 1], 0);
        // An excerpt lies before it.
        for (int t = 2; t < 60; ++t) EXPECT_NE(batch.inputs[begin + batch.tokens - t], 0);
        EXPECT_TRUE(now.insert(row.keep_slot).second);
        label_of[row.keep_slot] = row.label;
        ++keeps;
      }
      // Texts of a label say its name, and no other's.
      std::string text;
      for (int t = 0; t < batch.tokens; ++t) text += static_cast<char>(batch.inputs[begin + t]);
      EXPECT_THAT(text, HasSubstr(corpus_->labels()[row.label]));
      EXPECT_THAT(text, ::testing::Not(HasSubstr(corpus_->labels()[1 - row.label])));
      if (step >= 20) {
        ++rows;
        zero += row.start_slots.empty();
        one += row.start_slots.size() == 1;
        many += row.start_slots.size() > 1;
        separator_first += batch.inputs[begin] == 0;
      }
    }
    kept.insert(now.begin(), now.end());
  }
  const auto share = [&](int count) { return static_cast<double>(count) / rows; };
  // Where an own state's document has nothing left to read, the row begins from zero.
  EXPECT_NEAR(share(many), options.class_mean_share, 0.06);
  EXPECT_NEAR(share(one), options.own_share + options.foreign_share, 0.08);
  EXPECT_NEAR(share(zero), 1 - options.class_mean_share - options.own_share - options.foreign_share,
              0.09);
  EXPECT_NEAR(share(separator_first), options.separator_first_share, 0.06);
  EXPECT_NEAR(keeps / 960.0, options.keep_share, 0.06);
}

TEST_F(SourcesTest, StateReadyContinuesWhereItWas) {
  ExpectRestoreContinues(
      [&] { return MakeStateReadySource(corpus_, {.rows = 4, .tokens = 200}, {}, 9).value(); });
  const auto source = MakeStateReadySource(corpus_, {.rows = 4, .tokens = 200}, {}, 9).value();
  nlohmann::json position = nlohmann::json::parse(source->Save());
  position["slots"][0] = {1 << 20, 0};
  EXPECT_THAT(std::string(source->Restore(position.dump()).message()),
              HasSubstr("slot 0 to name a place in a document of its label"));
  StateReadyOptions options;
  options.own_share = 0.9;
  EXPECT_THAT(std::string(MakeStateReadySource(corpus_, {}, options, 1).status().message()),
              HasSubstr("own_share + foreign_share + class_mean_share"));
}

TEST_F(SourcesTest, HeldOutWindowsThatNoDocumentHoldsAreAnError) {
  const auto windows =
      HeldOutWindows(*corpus_, Split::kTest, {.rows = 2, .tokens = 1 << 20}, 3).status();
  EXPECT_EQ(windows.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(windows.message()), HasSubstr("at least 1048576 tokens"));
}

TEST_F(SourcesTest, HeldOutWindowsAreOfTrainedLabelsAndTheSameEveryTime) {
  const auto batches = HeldOutWindows(*corpus_, Split::kTest, {.rows = 2, .tokens = 64}, 3).value();
  std::map<int32_t, int> rows;
  for (const Batch& batch : batches) {
    ExpectShifted(batch);
    for (int row = 0; row < batch.rows; ++row) {
      ++rows[batch.row[row].label];
      EXPECT_EQ(batch.inputs[static_cast<size_t>(row) * batch.tokens], 0);
    }
  }
  EXPECT_EQ(rows, (std::map<int32_t, int>{{0, 3}, {1, 3}}));
  // Not all from beginnings.
  const auto again = HeldOutWindows(*corpus_, Split::kTest, {.rows = 2, .tokens = 64}, 3).value();
  int at_the_beginning = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    EXPECT_EQ(batches[i].inputs, again[i].inputs);
    for (int row = 0; row < batches[i].rows; ++row) {
      const int32_t* targets = batches[i].targets.data() + static_cast<size_t>(row) * 64;
      for (const Document& document : corpus_->documents(Split::kTest)) {
        const auto tokens = corpus_->tokens(Split::kTest, document);
        at_the_beginning += document.label == batches[i].row[row].label &&
                            std::equal(targets, targets + 64, tokens.begin());
      }
    }
  }
  EXPECT_LT(at_the_beginning, 3);
}

TEST(TaskSource, AnswersAreRightAndOnlyTheyAreScored) {
  TaskOptions options;
  options.digits = 12;
  const auto source = MakeTaskSource(options, {.rows = 8, .tokens = 128}, 3, false).value();
  const Batch batch = source->Next().value();
  for (int row = 0; row < batch.rows; ++row) {
    const int32_t* in = batch.inputs.data() + static_cast<size_t>(row) * batch.tokens;
    const int32_t* target = batch.targets.data() + static_cast<size_t>(row) * batch.tokens;
    std::vector<int32_t> number;
    for (int t = 0; t < batch.tokens; ++t) {
      if (in[t] == 10) {
        for (size_t i = 0; i < number.size() && t + static_cast<int>(i) < batch.tokens; ++i) {
          EXPECT_EQ(target[t + i], number[number.size() - 1 - i]);
        }
        t += static_cast<int>(number.size());
        number.clear();
      } else if (in[t] == 11) {
        number.clear();
        EXPECT_EQ(target[t], -1);
      } else {
        number.push_back(in[t]);
        EXPECT_EQ(target[t], -1);
      }
    }
  }
}

TEST(TaskSource, RecallAsksForEveryPairOnce) {
  TaskOptions options;
  options.task = "mqar";
  options.vocab = 64;
  options.pairs = 8;
  const auto source = MakeTaskSource(options, {.rows = 4, .tokens = 64}, 3, true).value();
  const Batch batch = source->Next().value();
  for (int row = 0; row < batch.rows; ++row) {
    const size_t begin = static_cast<size_t>(row) * batch.tokens;
    std::map<int32_t, int32_t> value;
    for (int i = 0; i < 8; ++i)
      value[batch.inputs[begin + 2 * i]] = batch.inputs[begin + 2 * i + 1];
    ASSERT_EQ(value.size(), 8u);
    int asked = 0;
    for (int t = 0; t < batch.tokens; ++t) {
      if (batch.targets[begin + t] < 0) continue;
      EXPECT_EQ(batch.targets[begin + t], value.at(batch.inputs[begin + t]));
      ++asked;
    }
    EXPECT_EQ(asked, 8);
  }
}

TEST(TaskSource, ParityIsOddness) {
  TaskOptions options;
  options.task = "parity";
  options.length = 9;
  const auto source = MakeTaskSource(options, {.rows = 4, .tokens = 64}, 3, false).value();
  const Batch batch = source->Next().value();
  int answers = 0;
  for (int row = 0; row < batch.rows; ++row) {
    int parity = 0;
    for (int t = 0; t < batch.tokens; ++t) {
      const size_t at = static_cast<size_t>(row) * batch.tokens + t;
      if (batch.inputs[at] == 2) {
        EXPECT_EQ(batch.targets[at], parity);
        ++answers;
        ++t;  // the answer itself is read, too
        parity = 0;
      } else {
        parity ^= batch.inputs[at];
      }
    }
  }
  EXPECT_GT(answers, 20);
}

TEST(TaskSource, HeldOutRowsAreOthersAndWrongTasksAreNamed) {
  const BatchShape shape = {.rows = 2, .tokens = 64};
  EXPECT_NE(Numbers(MakeTaskSource({}, shape, 3, false).value()->Next().value()),
            Numbers(MakeTaskSource({}, shape, 3, true).value()->Next().value()));
  ExpectRestoreContinues([&] { return MakeTaskSource({}, shape, 3, false).value(); });
  TaskOptions options;
  options.task = "sorting";
  EXPECT_THAT(std::string(MakeTaskSource(options, shape, 1, false).status().message()),
              HasSubstr("expected reversal, parity or mqar, found sorting"));
}

}  // namespace
}  // namespace dreamstate::training
