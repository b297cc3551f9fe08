// From texts to a published state DiT: harvest, state-dit and evaluate state-dit as programs.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/base/file.h"
#include "core/base/strings.h"
#include "core/diffusion/state_generator.h"
#include "core/repository/repository.h"
#include "core/training/state_dataset.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/core/evaluation/labelled_corpus.h"
#include "tests/server/trainer/program.h"
#include "tests/support/child_process.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::trainer {
namespace {

using ::testing::AllOf;
using testing::ChildProcess;
using ::testing::HasSubstr;
using testing::LabelledTexts;
using testing::RandomText;
using testing::ReadAll;
using testing::Result;
using testing::RunTrainer;
using testing::TemporaryDirectory;
using training::Split;
using training::StateDataset;

class StateDitTest : public ::testing::Test {
 protected:
  StateDitTest() {
    Draws draws(4, 1, 0);
    LabelledTexts texts;
    for (const char* label : {"letters", "digits"}) {
      const std::string_view kinds = *label == 'l' ? "abcdefgh " : "0123456789 ";
      for (int i = 0; i < 6; ++i) texts["train"].push_back({label, RandomText(draws, kinds, 90)});
      for (int i = 0; i < 2; ++i) texts["test"].push_back({label, RandomText(draws, kinds, 90)});
      // As many as a safety gate takes.
      for (int i = 0; i < 13; ++i) texts["valid"].push_back({label, RandomText(draws, kinds, 90)});
    }
    texts["test"].push_back({"signs", RandomText(draws, "+-*/", 90)});
    std::filesystem::create_directories(directory_ / "corpus");
    testing::WriteCorpus(directory_ / "corpus", texts);
    std::filesystem::copy(DREAMSTATE_TEST_DATA "/repository", directory_ / "models",
                          std::filesystem::copy_options::recursive);
    config_ = {{"steps", 6},
               {"threads", 1},
               {"precision", "fp32"},
               {"data", {{"states", directory_ / "states"}}},
               {"dit", {{"width", 32}, {"layers", 1}, {"head_size", 16}, {"mlp", 32}}},
               {"batch", {{"rows", 4}}},
               {"validation", {{"every_steps", 3}}},
               {"checkpoint", {{"every_steps", 2}}},
               {"publish", {{"repository", directory_ / "models"}, {"model", "tiny"}}}};
  }

  Result Harvest(const std::string& more = "") const {
    return RunTrainer(StrCat("harvest --repository '", directory_ / "models",
                             "' --model tiny --corpus '", directory_ / "corpus", "' --to '",
                             directory_ / "states",
                             "' --positions 32,64 --excerpt-tokens 8 --shard-documents 5 "
                             "--threads 1 ",
                             more));
  }
  std::vector<std::string> TrainArguments(const std::string& run, bool resume = false) const {
    const std::string config = directory_ / (run + ".json");
    std::ofstream(config) << config_.dump();
    std::vector<std::string> arguments = {"state-dit", "--config", config, "--run",
                                          directory_ / run};
    if (resume) arguments.push_back("--resume");
    return arguments;
  }
  std::string Train(const std::string& run, int expected = 0) const {
    ChildProcess process(DREAMSTATE_TRAINER, TrainArguments(run));
    EXPECT_EQ(process.Wait(), expected) << process.Errors();
    return process.Errors() + process.Output();
  }
  std::vector<double> Losses(const std::string& run) const {
    std::vector<double> losses;
    std::istringstream lines(ReadAll(directory_ / (run + "/log.jsonl")));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["event"] == "step") losses.push_back(json["loss"]);
    }
    return losses;
  }

  TemporaryDirectory directory_;
  nlohmann::json config_;
};

TEST_F(StateDitTest, TextsBecomeAPublishedGenerator) {
  const Result harvest = Harvest("--json");
  ASSERT_EQ(harvest.code, 0) << harvest.err;
  const auto report = nlohmann::json::parse(harvest.out);
  EXPECT_EQ(report["states"], 2 * 43);
  EXPECT_EQ(report["complete"], true);
  const std::string shown = Train("run");
  EXPECT_THAT(shown, AllOf(HasSubstr("4 states a step of 24"), HasSubstr("velocity loss"),
                           HasSubstr("published tiny version 2 at step 6")));
  // The backbone is what it was, so that nothing of it is loaded again.
  const auto repository = repository::Repository::Open(directory_ / "models").value();
  const repository::Manifest before = repository->ReadVersion("tiny", 1).value();
  const repository::Manifest after = repository->ReadVersion("tiny", 2).value();
  EXPECT_EQ(after.Find("backbone")->digest, before.Find("backbone")->digest);
  EXPECT_EQ(after.self_test.expected_nll, before.self_test.expected_nll);
  EXPECT_EQ(after.metrics["state_dit"]["step"], 6);
  EXPECT_EQ(after.Find("state_dit")->config["labels"][0], "digits");
  const auto set = repository->LoadComponent(after, "state_dit").value();
  const auto generator = diffusion::StateGenerator::Load(set, /*bf16=*/false).value();
  const diffusion::StateRequest digits = {.conditions = {{.label = 0, .text = {}}}};
  const auto states = generator->Generate(std::span(&digits, 1), {.steps = 2}).value();
  EXPECT_TRUE(states[0].Validate().ok());
  EXPECT_EQ(states[0].shape.layers, 12);
  ASSERT_NE(generator->gate(), nullptr);
  const Result calibrated =
      RunTrainer(StrCat("calibrate --repository '", directory_ / "models",
                        "' --model tiny --states '", directory_ / "states", "'"));
  EXPECT_EQ(calibrated.out, "published tiny version 3\n") << calibrated.err;
  // On the same states it is the same gate.
  EXPECT_EQ(repository->ReadVersion("tiny", 3)->Find("state_dit")->digest,
            after.Find("state_dit")->digest);

  const std::string evaluate =
      StrCat("evaluate state-dit --repository '", directory_ / "models",
             "' --model tiny --threads 1 --corpus '", directory_ / "corpus",
             "' --position 64 --length 16 --label-documents 4 --windows 2 --draws 1 --steps 2 "
             "--excerpt-tokens 8 --version 2 --only ");
  const Result table = RunTrainer(evaluate + "use");
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out,
              AllOf(HasSubstr("tiny version 2, state DiT of"), HasSubstr("strongest 4 of 4 blocks"),
                    HasSubstr("mean, label "), HasSubstr("sample, 8 tokens of its own text")));
  const Result json = RunTrainer(evaluate + "use --json");
  const auto figures = nlohmann::json::parse(json.out)["states"]["states"];
  // The codec loses nothing, whatever the state is worth.
  EXPECT_NEAR(figures["coded_4"]["saved"].get<double>(),
              figures["own_constant_shift"]["saved"].get<double>(), 0.02);
  const Result edits = RunTrainer(evaluate + "edits --json");
  EXPECT_EQ(edits.code, 0) << edits.err;
  const auto edited = nlohmann::json::parse(edits.out)["states"]["states"];
  EXPECT_EQ(edited["own_coded"]["saved"], figures["coded_4"]["saved"]);
  for (const char* id : {"projected_0.1", "noised", "repaired_label_0.5", "soup_projected",
                         "layers_mean", "layers_inpainted", "translated_1"}) {
    EXPECT_TRUE(edited.contains(id)) << id;
  }
  // The model has one head.
  EXPECT_FALSE(edited.contains("heads_inpainted"));
  const Result none =
      RunTrainer(StrCat("evaluate state-dit --repository '", directory_ / "models",
                        "' --model tiny --version 1 --corpus '", directory_ / "corpus", "'"));
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("tiny version 1: expected a state DiT, found none"));
}

TEST_F(StateDitTest, AHarvestIsGoneOnWithAndSharedAmongWorkers) {
  ASSERT_EQ(Harvest().code, 0);
  const StateDataset dataset = StateDataset::Open(directory_ / "states").value();
  EXPECT_EQ(dataset.info().shards[0], 3);
  const std::string shard = dataset.ShardPath(Split::kTrain, 1);
  const std::string bytes = ReadAll(shard);
  std::filesystem::remove(shard);
  EXPECT_THAT(Train("run", 1), HasSubstr("1 of 3 shards of train are missing"));
  // Not this worker's.
  const Result other = Harvest("--worker 0 --workers 2");
  EXPECT_THAT(other.out, HasSubstr("other workers' shards are missing"));
  const Result mine = Harvest("--worker 1 --workers 2");
  EXPECT_THAT(mine.out, HasSubstr("in 1 shards"));
  // Made again it is the same.
  EXPECT_EQ(ReadAll(shard), bytes);
  const Result others = Harvest("--seed 5");
  EXPECT_EQ(others.code, 1);
  EXPECT_THAT(others.err, HasSubstr("dataset.json: holds states of another backbone, corpus or "
                                    "other options"));
}

TEST_F(StateDitTest, AKilledRunRepeatsTheUninterruptedOne) {
  ASSERT_EQ(Harvest().code, 0);
  Train("whole");
  for (const int milliseconds : {300, 500, 700, 1000}) {
    ChildProcess process(DREAMSTATE_TRAINER, TrainArguments("killed", /*resume=*/true));
    usleep(static_cast<useconds_t>(milliseconds) * 1000);
    process.Signal(SIGKILL);
    process.Wait();
  }
  ChildProcess last(DREAMSTATE_TRAINER, TrainArguments("killed", /*resume=*/true));
  ASSERT_EQ(last.Wait(), 0) << last.Errors();
  EXPECT_EQ(Losses("killed"), Losses("whole"));
  EXPECT_EQ(Losses("whole").size(), 6u);
  // Another model does not go on with it.
  config_["dit"]["layers"] = 2;
  ChildProcess other(DREAMSTATE_TRAINER, TrainArguments("killed", /*resume=*/true));
  EXPECT_EQ(other.Wait(), 1);
  EXPECT_THAT(other.Errors(), HasSubstr("dit.layers: expected 1 as the run began with, found 2"));
}

TEST_F(StateDitTest, TheModeTunedIsLearnedOnTopOfAPublishedGenerator) {
  ASSERT_EQ(Harvest().code, 0);
  Train("run");
  config_["steps"] = 60;
  config_["dit"] = nlohmann::json::object();  // the published one's
  config_["optimiser"] = {{"lr", 3e-3}, {"warmup_steps", 1}};
  config_["validation"]["every_steps"] = 30;
  config_["tuning"] = {
      {"wanted", true}, {"corpus", directory_ / "corpus"}, {"tokens", 16}, {"flow_weight", 0.1}};
  EXPECT_THAT(Train("tuned"), AllOf(HasSubstr("nats a token"), HasSubstr("version 3 at step 60")));
  std::vector<double> validated;
  std::istringstream lines(ReadAll(directory_ / "tuned/log.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json["event"] == "validation") validated.push_back(json["loss"]);
  }
  ASSERT_GE(validated.size(), 2u);
  EXPECT_LT(validated.back(), validated.front());
  const auto repository = repository::Repository::Open(directory_ / "models").value();
  const repository::Manifest manifest = repository->ReadVersion("tiny", 3).value();
  // "signs" has no training document.
  EXPECT_EQ(manifest.Find("state_dit")->config["labels"],
            nlohmann::json({"digits", "letters", ""}));
  const auto set = repository->LoadComponent(manifest, "state_dit").value();
  const auto generator = diffusion::StateGenerator::Load(set, /*bf16=*/false).value();
  const diffusion::StateRequest digits = {.conditions = {{.label = 0, .text = {}}}};
  const auto states =
      generator->Generate(std::span(&digits, 1), {.mode = diffusion::GenerateMode::kTuned});
  EXPECT_TRUE(states->front().Validate().ok());
  const Result table = RunTrainer(
      StrCat("evaluate state-dit --repository '", directory_ / "models",
             "' --model tiny --threads 1 --corpus '", directory_ / "corpus",
             "' --position 64 --length 16 --label-documents 4 --windows 2 --draws 1 --steps 2 "
             "--excerpt-tokens 8 --only use"));
  EXPECT_THAT(table.out, AllOf(HasSubstr("tuned, label "), HasSubstr("tuned, another text"),
                               HasSubstr("tuned, both, then the excerpt")))
      << table.err;
  // What is missing is said.
  config_["tuning"].erase("corpus");
  EXPECT_THAT(Train("none", 1), HasSubstr("tuning.corpus"));
}

TEST_F(StateDitTest, WhatDoesNotFitIsSaidBeforeTheFirstStep) {
  ASSERT_EQ(Harvest().code, 0);
  const auto message = [&](auto change) {
    const nlohmann::json kept = config_;
    change();
    const std::string errors = Train("wrong", 1);
    config_ = kept;
    return errors;
  };
  EXPECT_THAT(message([&] { config_["publish"]["model"] = "other"; }), HasSubstr("other"));
  // States that are none.
  const std::string shard = directory_ / "states/train/00001.safetensors";
  const std::string whole = ReadAll(shard);
  std::string broken = whole;
  std::fill_n(broken.end() - 4096, 4096, '\xff');  // NaN in f16
  testing::WriteAll(shard, broken);
  EXPECT_THAT(message([] {}), AllOf(HasSubstr("/states: "), HasSubstr("finite states")));
  testing::WriteAll(shard, whole.substr(0, whole.size() - 100));
  EXPECT_THAT(message([] {}), HasSubstr("00001.safetensors"));
  testing::WriteAll(shard, whole);
  EXPECT_THAT(message([&] { config_["data"]["states"] = "/nowhere"; }), HasSubstr("/nowhere"));
  EXPECT_THAT(message([&] { config_["data"].erase("states"); }),
              HasSubstr("data.states: expected"));
  EXPECT_THAT(message([&] { config_["data"]["text_share"] = 0.9; }),
              HasSubstr("label_share, text_share and both_share"));
  EXPECT_THAT(message([&] { config_["dit"]["width"] = 40; }), HasSubstr("multiple of head_size"));
  EXPECT_THAT(message([&] { config_["dit"]["wdith"] = 40; }), HasSubstr("did you mean"));
}

}  // namespace
}  // namespace dreamstate::trainer
