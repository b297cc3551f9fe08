// The measurement against a backbone whose states are worth what is known
// (remembering_backbone.h), and controls that must fail.
#include "core/evaluation/state_use.h"

#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/evaluation/made_states.h"
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
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kPosition = 128, kLength = 80;
constexpr std::string_view kLabels[] = {"alpha", "beta", "gamma"};
constexpr std::string_view kLetters[] = {"abcdefgh", "ijklmnop", "qrstuvwx"};

// A text of a label: of five of its eight letters, so that a document knows more of itself than its
// label does, and other documents less.
std::string LabelText(Draws& draws, std::string_view letters) {
  std::string chosen;
  for (const int32_t i : draws.Choose(5, static_cast<int32_t>(letters.size()))) {
    chosen += letters[i];
  }
  return RandomText(draws, chosen, kPosition + kLength);
}

// `shuffled_labels`: which label a text gets has nothing to do with its letters.
LabelledTexts ThreeLabels(bool shuffled_labels) {
  LabelledTexts texts;
  Draws draws(17, 1, 0);
  const auto add = [&](const char* split, int documents) {
    for (int i = 0; i < documents; ++i) {
      const std::string_view letters = kLetters[i % 3];
      const size_t label = shuffled_labels ? draws.Below(3) : i % 3;
      texts[split].push_back({std::string(kLabels[label]), LabelText(draws, letters)});
    }
  };
  add("train", 60);
  add("test", 45);
  return texts;
}

StateUseOptions SmallOptions() {
  StateUseOptions options;
  options.windows.position = kPosition;
  options.windows.length = kLength;
  options.windows.windows_per_label = 12;
  options.windows.label_documents = 18;
  options.bootstrap.resamples = 500;
  return options;
}

class StateUseTest : public ::testing::Test {
 protected:
  absl::StatusOr<StateUse> Measure(const LabelledTexts& texts, const StateUseOptions& options) {
    TemporaryDirectory directory;
    WriteCorpus(directory.path(), texts);
    corpus_ = training::Corpus::Open(directory.path()).value();
    return MeasureStateUse({.reader = reader_, .tokenizer = *tokenizer_, .corpus = *corpus_},
                           options);
  }
  std::vector<float> Losses(const std::vector<int32_t>& context,
                            const std::vector<int32_t>& scored) {
    const Reading reading = {.context = context, .scored = scored};
    return reader_.Read({&reading, 1})->front().nll;
  }

  kernels::ThreadPool pool_{2};
  Reader reader_{
      rwkv::Weights::Load(RememberingBackbone(), rwkv::WeightFormat::kFloat32).value(), {}, pool_};
  const std::unique_ptr<const text::Tokenizer> tokenizer_ = text::MakeByteTokenizer();
  std::shared_ptr<const training::Corpus> corpus_;
};

TEST_F(StateUseTest, StatesAreWorthWhatTheyKnow) {
  const auto use = Measure(ThreeLabels(false), SmallOptions());
  ASSERT_TRUE(use.ok()) << use.status();
  EXPECT_EQ(use->windows, 36);
  EXPECT_THAT(use->labels, ElementsAre("alpha", "beta", "gamma"));
  EXPECT_THAT(use->label_windows, ElementsAre(12, 12, 12));
  const auto saved = [&use](std::string_view id) { return use->Find(id)->saved; };
  // Own text tells most, then what the label's documents have in common, then another document.
  EXPECT_GT(saved("own_after").interval.low, saved("class_mean").interval.high);
  EXPECT_GT(saved("class_mean").per_byte, saved("soup_4").per_byte);
  EXPECT_GT(saved("soup_4").per_byte, saved("soup_2").per_byte);
  EXPECT_GT(saved("soup_2").per_byte, saved("foreign").per_byte);
  EXPECT_GT(saved("class_mean").interval.low, 0);
  EXPECT_GT(use->Find("own_after")->helped, 0.95);
  // This backbone hardly hears a separator.
  EXPECT_NEAR(saved("own_before").per_byte, saved("own_after").per_byte, 0.01);
  EXPECT_NEAR(saved("class_mean").per_byte, saved("class_mean_before").per_byte, 0.01);
  // And its shift vectors carry nothing.
  EXPECT_NEAR(saved("own_constant_shift").per_byte, saved("own_after").per_byte, 0.01);
  EXPECT_NEAR(saved("class_mean_constant_shift").per_byte, saved("class_mean").per_byte, 0.01);
  EXPECT_NEAR(saved("zero_constant_shift").per_byte, 0, 1e-6);
  // A longer excerpt tells more, but no more than all of the text.
  EXPECT_LT(saved("own_prompt_16").per_byte, saved("own_prompt_64").per_byte);
  EXPECT_LT(saved("own_prompt_64").per_byte, saved("own_after").per_byte);
  EXPECT_EQ(use->Find("own_prompt_256"), nullptr);  // longer than the text before the window
}

TEST_F(StateUseTest, ControlsFail) {
  const auto use = Measure(ThreeLabels(false), SmallOptions());
  ASSERT_TRUE(use.ok()) << use.status();
  for (const char* id :
       {"wrong_label", "shuffled", "wrong_label_constant_shift", "shuffled_constant_shift"}) {
    EXPECT_LT(use->Find(id)->saved.interval.high, 0) << id;
    EXPECT_LT(use->Find(id)->helped, 0.2) << id;
  }
}

TEST_F(StateUseTest, LabelsThatMeanNothingAreWorthNothing) {
  const auto use = Measure(ThreeLabels(true), SmallOptions());
  ASSERT_TRUE(use.ok()) << use.status();
  const auto saved = [&use](std::string_view id) { return use->Find(id)->saved; };
  EXPECT_GT(saved("own_after").interval.low, 0);
  // Another document of the label is as good as one of the wrong label, and its mean no better
  // than that of all labels.
  EXPECT_LT(saved("foreign").interval.low, saved("wrong_label").interval.high);
  EXPECT_LT(saved("class_mean").per_byte, saved("global_mean").per_byte + 0.05);
  const auto real = Measure(ThreeLabels(false), SmallOptions());
  EXPECT_GT(real->Find("foreign")->saved.interval.low,
            real->Find("wrong_label")->saved.interval.high);
  EXPECT_GT(real->Find("class_mean")->saved.per_byte,
            real->Find("global_mean")->saved.per_byte + 0.2);
}

TEST_F(StateUseTest, WorthFadesWithDistance) {
  const auto use = Measure(ThreeLabels(false), SmallOptions());
  ASSERT_TRUE(use.ok()) << use.status();
  ASSERT_EQ(use->distances.size(), 3u);
  EXPECT_EQ(use->distances[2].from, 64);
  EXPECT_EQ(use->distances[2].to, kLength);
  const StateWorth& own = *use->Find("own_after");
  EXPECT_GT(own.by_distance[0].per_byte, 2 * own.by_distance[1].per_byte);
  EXPECT_GT(own.by_distance[1].per_byte, own.by_distance[2].per_byte);
  // Parts make up the whole.
  double total = 0, zero = 0;
  for (int d = 0; d < 3; ++d) {
    const int tokens = use->distances[d].to - use->distances[d].from;
    total += own.by_distance[d].per_byte * tokens / kLength;
    zero += use->zero_by_distance[d] * tokens / kLength;
  }
  EXPECT_NEAR(total, own.saved.per_byte, 1e-9);
  EXPECT_NEAR(zero, use->zero_bits_per_byte, 1e-9);
}

// One window, computed by hand: every condition scores the same tokens, the first one too.
TEST_F(StateUseTest, ConditionsAreWhatTheySay) {
  Draws draws(2, 1, 0);
  LabelledTexts texts;
  for (const char* label : {"alpha", "beta"}) {
    for (int i = 0; i < 2; ++i) {
      texts["train"].push_back({label, RandomText(draws, "abcdefgh", kPosition)});
    }
  }
  const std::string tested = RandomText(draws, "abcd", kPosition + kLength + 5);
  texts["test"] = {{"alpha", tested}, {"beta", RandomText(draws, "efgh", kPosition + kLength)}};
  StateUseOptions options = SmallOptions();
  options.foreign_draws = 2;
  const auto use = Measure(texts, options);
  ASSERT_TRUE(use.ok()) << use.status();
  const std::vector<int32_t> text(tested.begin(), tested.begin() + kPosition);
  const std::vector<int32_t> scored(tested.begin() + kPosition,
                                    tested.begin() + kPosition + kLength);
  const auto bits = [&](const std::vector<int32_t>& context) {
    double sum = 0;
    for (const float nll : Losses(context, scored)) sum += nll / std::log(2.0);
    return sum / kLength;
  };
  const auto behind = [](std::vector<int32_t> context, bool separator) {
    context.insert(context.begin(), 0);
    if (separator) context.push_back(0);
    return context;
  };
  const auto saved = [&use](std::string_view id) { return use->Find(id)->by_label[0]; };
  const double zero = bits({0});
  EXPECT_NEAR(use->zero_by_label[0], zero, 1e-6);
  EXPECT_NEAR(saved("own_before"), zero - bits(behind(text, false)), 1e-6);
  EXPECT_NEAR(saved("own_after"), zero - bits(behind(text, true)), 1e-6);
  const std::vector<int32_t> last(text.end() - 64, text.end());
  EXPECT_NEAR(saved("own_prompt_64"), zero - bits(behind(last, false)), 1e-6);
  // Two draws of two documents: each once.
  double foreign = 0;
  std::vector<Harvested> states;
  for (int i = 0; i < 2; ++i) {
    const std::string& other = texts["train"][i].text;
    const std::vector<int32_t> context = behind({other.begin(), other.end()}, true);
    foreign += (zero - bits(context)) / 2;
    const Reading reading = {.context = context, .harvest = true};
    states.push_back(reader_.Read({&reading, 1})->front().harvested);
  }
  EXPECT_NEAR(saved("foreign"), foreign, 1e-6);
  // The mean of both states, the separator, the window.
  MeanState mean(states[0].state.shape);
  for (const Harvested& one : states) mean.Add(one.state);
  const Harvested both = mean.Mean();
  const Reading reading = {.from = &both, .context = {0}, .scored = scored};
  double cost = 0;
  const auto results = reader_.Read({&reading, 1});
  for (const float nll : results->front().nll) cost += nll / std::log(2.0);
  EXPECT_NEAR(saved("class_mean"), zero - cost / kLength, 1e-6);
  EXPECT_NEAR(saved("soup_2"), saved("class_mean"), 1e-6);
}

TEST_F(StateUseTest, SeedDecidesAndNothingElse) {
  StateUseOptions options = SmallOptions();
  options.windows.windows_per_label = 4;
  const LabelledTexts texts = ThreeLabels(false);
  const auto json = [&] { return StateUseJson(*Measure(texts, options), options).dump(); };
  const std::string once = json();
  EXPECT_EQ(json(), once);
  options.windows.seed = 1;
  EXPECT_NE(json(), once);
}

TEST_F(StateUseTest, ShortDocumentsAreLeftOutAndNamed) {
  LabelledTexts texts = ThreeLabels(false);
  texts["train"].push_back({"short", std::string(kPosition - 1, 'a')});
  texts["test"].push_back({"short", std::string(kPosition + kLength, 'a')});
  texts["test"].push_back({"odd", std::string(kPosition + kLength, 'a')});  // never trained on
  StateUseOptions options = SmallOptions();
  const auto use = Measure(texts, options);
  ASSERT_TRUE(use.ok()) << use.status();
  EXPECT_THAT(use->left_out, ElementsAre("short"));
  EXPECT_THAT(use->labels, ElementsAre("alpha", "beta", "gamma"));
  EXPECT_THAT(StateUseTable(*use, options).ToText(), HasSubstr("too short or too few: short."));
  options.windows.position = kPosition + 1;
  const auto none = Measure(texts, options);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("of 209 tokens"));
}

TEST_F(StateUseTest, OptionsThatMakeNoSenseAreRefused) {
  const auto refusal = [this](void (*change)(StateUseOptions&)) {
    StateUseOptions options = SmallOptions();
    change(options);
    return std::string(Measure(ThreeLabels(false), options).status().message());
  };
  EXPECT_THAT(refusal([](StateUseOptions& o) { o.foreign_draws = 0; }), HasSubstr("foreign_draws"));
  EXPECT_THAT(refusal([](StateUseOptions& o) { o.windows.position = 0; }), HasSubstr("position"));
  EXPECT_THAT(refusal([](StateUseOptions& o) { o.windows.length = 0; }), HasSubstr("length"));
  EXPECT_THAT(refusal([](StateUseOptions& o) { o.windows.label_documents = 1; }),
              HasSubstr("label_documents: expected at least 2, found 1"));
  EXPECT_THAT(refusal([](StateUseOptions& o) { o.windows.split = training::Split::kTrain; }),
              HasSubstr("found train"));
}

TEST_F(StateUseTest, TablesShowEveryState) {
  const StateUseOptions options = SmallOptions();
  const auto use = Measure(ThreeLabels(false), options);
  ASSERT_TRUE(use.ok()) << use.status();
  const std::string text = StateUseTable(*use, options).ToText();
  const auto json = StateUseJson(*use, options);
  for (const StateSection& section : use->sections) {
    for (const StateWorth& worth : section.states) {
      EXPECT_THAT(text, HasSubstr(worth.name));
      EXPECT_EQ(json["states"][worth.id]["saved"], worth.saved.per_byte);
      EXPECT_EQ(json["states"][worth.id]["by_distance"].size(), 3u);
    }
  }
  EXPECT_THAT(text, HasSubstr("(3 draws)"));
  EXPECT_THAT(StateUseByLabelTable(*use).ToMarkdown(), HasSubstr("| gamma | 12 |"));
}

}  // namespace
}  // namespace dreamstate::evaluation
