#include "core/training/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "core/training/checkpoint.h"
#include "core/training/run_config.h"
#include "core/training/run_log.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::training {
namespace {

using dreamstate::testing::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One number that goes halfway to the mean of the batch's inputs each step.
class FakeLearner : public Learner {
 public:
  absl::StatusOr<StepResult> Step(const Batch& batch, double lr) override {
    double mean = 0;
    for (const int32_t input : batch.inputs) mean += input;
    mean /= static_cast<double>(batch.inputs.size());
    ++steps_;
    StepResult result = {.loss = std::abs(value_ - mean),
                         .grad_norm = lr,
                         .tokens = static_cast<int64_t>(batch.inputs.size())};
    if (steps_ == bad_step) result.loss = bad_loss;
    value_ += 0.5 * (mean - value_);
    return result;
  }
  absl::StatusOr<EvaluationResult> Evaluate(const Batch& batch) override {
    EvaluationResult result;
    for (int row = 0; row < batch.rows; ++row) {
      result.row_nll.push_back(value_ * batch.tokens);
      result.row_scored.push_back(batch.tokens);
      result.row_correct.push_back(1);
      result.nll += result.row_nll.back();
      result.scored += batch.tokens;
      result.correct += 1;
    }
    return result;
  }
  absl::Status Save(const std::string& directory) override {
    std::ofstream(directory + "/fake") << std::hexfloat << value_ << " " << steps_;
    return absl::OkStatus();
  }
  absl::Status Restore(const std::string& directory) override {
    std::ifstream file(directory + "/fake");
    std::string text;
    file >> text >> steps_;
    value_ = std::strtod(text.c_str(), nullptr);
    return absl::OkStatus();
  }
  absl::StatusOr<tensors::TensorSet> Export(bool) override { return tensors::TensorSet(); }
  int64_t parameters() const override { return 1; }
  std::string device() const override { return "fake"; }

  int64_t bad_step = -1;
  double bad_loss = 0;

 private:
  double value_ = 0;
  int64_t steps_ = 0;
};

class FakeSource : public BatchSource {
 public:
  int bank_slots() const override { return 0; }
  absl::StatusOr<Batch> Next() override {
    ++step_;
    return Batch{.rows = 1,
                 .tokens = 2,
                 .inputs = {static_cast<int32_t>(step_ * 37 % 11), 5},
                 .targets = {1, 1},
                 .row = {Row()}};
  }
  std::string Save() const override { return std::to_string(step_); }
  absl::Status Restore(const std::string& position) override {
    step_ = std::stoll(position);
    return absl::OkStatus();
  }

 private:
  int64_t step_ = 0;
};

class RunTest : public ::testing::Test {
 protected:
  RunTest() {
    config_.schedule = {.lr = 1e-3, .lr_final = 1e-4, .warmup_steps = 5, .steps = 60};
    config_.checkpoint = {.every_minutes = 0, .every_steps = 10, .keep = 2};
    config_.validation.every_steps = 20;
    config_.divergence_nats = 20;
    config_.data.corpus = "corpus";
    run_.directory = directory_ / "run";
    run_.validation = {{.rows = 2,
                        .tokens = 4,
                        .inputs = std::vector<int32_t>(8),
                        .targets = std::vector<int32_t>(8),
                        .row = {{.start_slots = {}, .keep_slot = -1, .label = 0},
                                {.start_slots = {}, .keep_slot = -1, .label = 1}}}};
    run_.labels = 3;
  }
  // A process of its own, as it were; ends after `stop_after` steps when that is above 0.
  absl::StatusOr<RunOutcome> Go(bool resume, int64_t stop_after = 0) {
    FakeLearner learner;
    learner.bad_step = bad_step_;
    learner.bad_loss = bad_loss_;
    FakeSource source;
    int64_t steps = 0;
    hooks_.stopping = [&] { return ++steps == stop_after; };
    training::Run run = MakeRun(config_, run_.directory);
    run.validation = run_.validation;
    run.labels = run_.labels;
    run.writes = run_.writes;
    return Train(run, resume, learner, source, hooks_);
  }
  std::string Read(const std::string& name) const {
    std::ifstream file(run_.directory + "/" + name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // Step and loss of each step's line.
  std::vector<std::pair<int64_t, double>> Curve() const {
    std::vector<std::pair<int64_t, double>> curve;
    std::istringstream lines(Read("log.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.at("event") == "step") curve.emplace_back(json.at("step"), json.at("loss"));
    }
    return curve;
  }

  TemporaryDirectory directory_;
  RunConfig config_;
  training::Run run_;
  RunHooks hooks_;
  int64_t bad_step_ = -1;
  double bad_loss_ = 0;
};

TEST_F(RunTest, LeavesConfigLogCurvesAndTheLastCheckpoints) {
  EXPECT_TRUE(Go(false).value().finished);
  EXPECT_EQ(Curve().size(), 60u);
  EXPECT_THAT(ListCheckpoints(run_.directory).value(), ElementsAre(50, 60));
  EXPECT_TRUE(ParseRunConfig("config.json", R"({"data": {"source": "task"}})").ok());
  EXPECT_THAT(Read("config.json"), HasSubstr("\"warmup_steps\": 5"));
  EXPECT_THAT(Read("curves.csv"), HasSubstr("step,tokens,loss"));
  EXPECT_THAT(Read("curves.png"), HasSubstr("PNG"));
}

TEST_F(RunTest, AStoppedRunGoesOnAsIfItHadNotStopped) {
  ASSERT_TRUE(Go(false).ok());
  const auto whole = Curve();
  std::filesystem::remove_all(run_.directory);
  const RunOutcome first = Go(false, 23).value();
  EXPECT_FALSE(first.finished);
  EXPECT_EQ(first.step, 23);
  EXPECT_EQ(Go(true, 4).value().step, 27);
  EXPECT_TRUE(Go(true).value().finished);
  EXPECT_EQ(Curve(), whole);
}

TEST_F(RunTest, WhatAKilledRunLeftHalfIsCutOff) {
  ASSERT_TRUE(Go(false).ok());
  const auto whole = Curve();
  std::filesystem::remove_all(run_.directory);
  ASSERT_TRUE(Go(false, 25).ok());
  // As a kill leaves it: the newest checkpoint half written, log lines beyond the last whole one,
  // the last line torn.
  std::filesystem::rename(CheckpointPath(run_.directory, 25),
                          CheckpointPath(run_.directory, 25) + ".tmp");
  std::ofstream(run_.directory + "/log.jsonl", std::ios::app) << R"({"event":"step","step":26,"lo)";
  ASSERT_TRUE(Go(true).value().finished);
  EXPECT_EQ(Curve(), whole);
  EXPECT_FALSE(std::filesystem::exists(CheckpointPath(run_.directory, 25) + ".tmp"));
}

TEST_F(RunTest, DivergenceNamesTheLastGoodCheckpoint) {
  for (const double loss :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e3}) {
    std::filesystem::remove_all(run_.directory);
    bad_step_ = 34;
    bad_loss_ = loss;
    const absl::Status status = Go(false).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("diverged at step 34"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("checkpoints/0000000030"));
    EXPECT_THAT(Read("log.jsonl"), HasSubstr("\"diverged\""));
  }
}

TEST_F(RunTest, OneRunADirectoryAtATime) {
  ASSERT_TRUE(Go(false, 5).ok());
  EXPECT_EQ(Go(false).status().code(), absl::StatusCode::kFailedPrecondition);
  absl::Status inner;
  hooks_.on_step = [&](const RunProgress&) {
    if (!inner.ok()) return;
    FakeLearner learner;
    FakeSource source;
    inner = Train(run_, true, learner, source, {}).status();
  };
  ASSERT_TRUE(Go(true).ok());
  EXPECT_THAT(std::string(inner.message()), HasSubstr("another process trains there"));
}

TEST_F(RunTest, PublishesWhenItImprovesAndGoesOnWhenThatFails) {
  config_.publish = {.repository = "r", .model = "m", .on_improvement = true};
  std::vector<int64_t> published;
  hooks_.publish = [&](Learner&, int64_t step,
                       const nlohmann::json& metrics) -> absl::StatusOr<int64_t> {
    EXPECT_TRUE(metrics.contains("validation_loss"));
    published.push_back(step);
    if (published.size() == 1) return absl::ResourceExhaustedError("the disk is full");
    return static_cast<int64_t>(published.size());
  };
  ASSERT_TRUE(Go(false).value().finished);
  ASSERT_FALSE(published.empty());
  EXPECT_EQ(published.front(), 20);
  EXPECT_EQ(published.back(), 60);
  EXPECT_THAT(Read("log.jsonl"), HasSubstr("the disk is full"));
}

TEST_F(RunTest, ADirectoryThatCannotBeWrittenIsNamed) {
  std::ofstream(directory_ / "file") << "x";
  run_.directory = directory_ / "file";
  EXPECT_THAT(std::string(Go(false).status().message()), HasSubstr("file"));
}

TEST(RunConfig, ReadsBackWhatItWrites) {
  RunConfig config;
  config.data.source = "uniform";
  config.data.corpus = "somewhere";
  config.seed = 0xfedcba9876543210;
  config.schedule.lr = 1.0 / 3;
  config.model.layers = 7;
  config.publish.repository = "r";
  config.publish.model = "m";
  config.bf16 = false;
  const std::string text = SerializeRunConfig(config);
  const RunConfig again = ParseRunConfig("test", text).value();
  EXPECT_EQ(SerializeRunConfig(again), text);
  EXPECT_EQ(again.seed, config.seed);
  EXPECT_EQ(again.schedule.lr, config.schedule.lr);
}

TEST_F(RunTest, ADamagedCheckpointIsNamedWithTheOneBeforeIt) {
  ASSERT_TRUE(Go(false, 25).ok());
  const std::string newest = CheckpointPath(run_.directory, 25);
  std::fstream file(newest + "/fake", std::ios::in | std::ios::out);
  file.put('7');
  file.close();
  const absl::Status status = Go(true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("fake: damaged: expected SHA-256"));
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("to go on from " + CheckpointPath(run_.directory, 20) + ", remove " + newest));
  std::filesystem::remove_all(newest);
  EXPECT_TRUE(Go(true).ok());
}

TEST_F(RunTest, AResumedRunKeepsWhatItsCheckpointsDependOn) {
  ASSERT_TRUE(Go(false, 25).ok());
  config_.batch.rows = 7;
  EXPECT_THAT(std::string(Go(true).status().message()),
              HasSubstr("batch.rows: expected 8 as the run began with, found 7"));
  config_.batch.rows = 8;
  config_.data.state_ready.mean_states = 3;
  EXPECT_THAT(std::string(Go(true).status().message()), HasSubstr("data.mean_states"));
  config_.data.state_ready.mean_states = StateReadyOptions().mean_states;
  config_.schedule.steps = 70;
  config_.data.corpus = "moved";
  EXPECT_TRUE(Go(true).ok());
}

// A directory in the place of a file cannot be written over.
TEST_F(RunTest, CurvesAndCheckpointsThatCannotBeWrittenEndNoRun) {
  std::filesystem::create_directories(run_.directory + "/curves.png/in_the_way");
  std::filesystem::create_directories(run_.directory);
  std::ofstream(run_.directory + "/checkpoints") << "a file";
  std::vector<std::string> troubles;
  hooks_.on_trouble = [&](const absl::Status& status) {
    troubles.emplace_back(status.message());
    if (status.message().find("checkpoints") != absl::string_view::npos) {
      std::filesystem::remove(run_.directory + "/checkpoints");
    }
  };
  const auto outcome = Go(false);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->step, 60);
  EXPECT_THAT(troubles, ::testing::Contains(HasSubstr("checkpoints")));
  EXPECT_THAT(troubles, ::testing::Contains(HasSubstr("curves.png")));
  EXPECT_THAT(ListCheckpoints(run_.directory).value(), ElementsAre(50, 60));
}

TEST_F(RunTest, OddLinesOfALogAreLeftAlone) {
  ASSERT_TRUE(Go(false, 25).ok());
  std::ofstream(run_.directory + "/log.jsonl", std::ios::app) << R"({"event":"step","step":"x"})"
                                                              << "\n"
                                                              << R"({"event":5,"step":null})"
                                                              << "\n";
  EXPECT_TRUE(Go(true).ok());
  EXPECT_THAT(Read("log.jsonl"), HasSubstr("\"step\":60,"));
}

TEST_F(RunTest, TheLastPublicationIsToldOf) {
  config_.publish.repository = "somewhere";
  config_.publish.at_end = true;
  hooks_.publish = [](Learner&, int64_t, const nlohmann::json&) -> absl::StatusOr<int64_t> {
    return absl::UnavailableError("no room");
  };
  const auto outcome = Go(false);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->published.message(), "no room");
}

TEST(RunConfig, WrongKeysAndValuesAreNamed) {
  const auto message = [](const std::string& json) {
    return std::string(ParseRunConfig("run.json", json).status().message());
  };
  EXPECT_THAT(message(R"({"optimiser": {"warmup_step": 1}})"),
              HasSubstr("unknown key \"optimiser.warmup_step\"; did you mean "
                        "\"optimiser.warmup_steps\"?"));
  EXPECT_THAT(message(R"({"modell": {}})"), HasSubstr("did you mean \"model\"?"));
  EXPECT_THAT(message(R"({"steps": 0})"), HasSubstr("steps: expected a whole number in [1,"));
  EXPECT_THAT(message(R"({"steps": 1.5})"), HasSubstr("found 1.5"));
  EXPECT_THAT(message(R"({"steps": 99999999999999999999})"), HasSubstr("steps: expected"));
  EXPECT_THAT(message(R"({"data": {"packed_share": 2}})"),
              HasSubstr("data.packed_share: expected a number in [0, 1], found 2"));
  EXPECT_THAT(message(R"({"data": {"source": "books"}})"),
              HasSubstr("expected one of state-ready, uniform, rwkv-lm, task, found \"books\""));
  EXPECT_THAT(message(R"({"model": 3})"), HasSubstr("model: expected an object, found 3"));
  EXPECT_THAT(message("{"), HasSubstr("run.json: expected a JSON object, found a syntax error"));
  EXPECT_THAT(message(R"({"batch": {}, "batch": {}})"), HasSubstr("\"batch\" stands twice"));
  EXPECT_THAT(message(std::string(100, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(message("{}"), HasSubstr("data.corpus: expected the directory"));
  EXPECT_THAT(message(R"({"mode": "state-tuning", "data": {"corpus": "c"}})"),
              HasSubstr("init: expected a checkpoint"));
}

}  // namespace
}  // namespace dreamstate::training
