// `dreamstate-trainer train` as a process: told to stop, killed, started again, in ranks.
#include <signal.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/base/draws.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "core/training/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/core/training/made_corpus.h"
#include "tests/support/child_process.h"
#include "tests/support/http.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::trainer {
namespace {

using ::testing::AllOf;
using testing::ChildProcess;
using testing::FreePort;
using ::testing::HasSubstr;
using testing::HttpGet;
using testing::ReadAll;
using testing::TemporaryDirectory;

class TrainTest : public ::testing::Test {
 protected:
  TrainTest() {
    training::MadeCorpus(directory_.path());
    config_ = {{"steps", 40},
               {"seed", 3},
               {"precision", "fp32"},
               {"threads", 1},
               {"model", {{"layers", 2}, {"width", 32}, {"head_size", 16}}},
               {"data",
                {{"source", "state-ready"},
                 {"corpus", directory_ / "corpus"},
                 {"excerpt_min_tokens", 8},
                 {"excerpt_max_tokens", 24},
                 {"slots_per_label", 4},
                 {"own_share", 0.3},
                 {"foreign_share", 0.3},
                 {"class_mean_share", 0.3},
                 {"keep_share", 0.5}}},
               {"batch", {{"rows", 4}, {"tokens", 48}}},
               {"validation", {{"every_steps", 10}, {"windows_per_label", 2}, {"tokens", 48}}},
               {"checkpoint", {{"every_steps", 5}}},
               {"publish", {{"repository", directory_ / "models"}, {"model", "made"}}}};
  }

  // Starts a run in `name` of the test's directory.
  ChildProcess Start(const std::string& name, std::vector<std::string> more = {},
                     const std::vector<std::string>& environment = {}) {
    const std::string config = directory_ / (name + ".json");
    std::ofstream(config) << config_.dump();
    std::vector<std::string> arguments = {"train", "--config", config, "--run", directory_ / name};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return ChildProcess(DREAMSTATE_TRAINER, std::move(arguments), environment);
  }
  // What torchrun sets for one of two ranks.
  static std::vector<std::string> OfTwoRanks(const char* rank, const std::string& port) {
    return {StrCat("RANK=", rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
            StrCat("MASTER_PORT=", port), "GLOO_SOCKET_IFNAME=lo"};
  }
  void RunToTheEnd(const std::string& name, std::vector<std::string> more = {}) {
    ChildProcess process = Start(name, std::move(more));
    ASSERT_EQ(process.Wait(), 0) << process.Errors();
  }

  std::vector<nlohmann::json> Log(const std::string& name) const {
    std::vector<nlohmann::json> lines;
    const std::string path = directory_ / (name + "/log.jsonl");
    if (!std::filesystem::exists(path)) return lines;
    std::istringstream text(ReadAll(path));
    for (std::string line; std::getline(text, line);) {
      // A run that was killed may leave half a line.
      nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!json.is_discarded()) lines.push_back(std::move(json));
    }
    return lines;
  }
  // By step: the loss of the last line that tells of it.
  std::map<int64_t, double> Losses(const std::string& name, const char* event = "step") const {
    std::map<int64_t, double> losses;
    for (const nlohmann::json& line : Log(name)) {
      if (line["event"] == event) losses[line["step"]] = line["loss"];
    }
    return losses;
  }
  void ExpectSameLosses(const std::map<int64_t, double>& found,
                        const std::map<int64_t, double>& expected, double tolerance) const {
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [step, loss] : expected) {
      ASSERT_TRUE(found.contains(step)) << "step " << step;
      EXPECT_NEAR(found.at(step), loss, tolerance) << "step " << step;
    }
  }
  // Every version of the repository is whole; how many there are.
  int64_t ExpectWholeVersions() const {
    const std::string path = directory_ / "models";
    if (!std::filesystem::exists(path)) return 0;
    const auto repository = repository::Repository::Open(path);
    if (!repository.ok()) return 0;  // killed before its first directory was complete
    const auto models = (*repository)->ListModels().value();
    if (models.empty()) return 0;
    int64_t count = 0;
    const std::vector<repository::VersionInfo> versions =
        (*repository)->ListVersions("made").value();
    for (const repository::VersionInfo& version : versions) {
      EXPECT_TRUE(version.manifest.ok()) << version.manifest.status();
      if (!version.manifest.ok()) continue;
      const absl::Status whole = (*repository)->Verify(*version.manifest);
      EXPECT_TRUE(whole.ok()) << whole;
      ++count;
    }
    return count;
  }
  // Waits until the run has logged `step`.
  void WaitForStep(const std::string& name, int64_t step, ChildProcess& process) {
    while (process.Running()) {
      const auto losses = Losses(name);
      if (!losses.empty() && losses.rbegin()->first >= step) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  TemporaryDirectory directory_;
  nlohmann::json config_;
};

TEST_F(TrainTest, LeavesARunAndAPublishedVersion) {
  RunToTheEnd("run");
  EXPECT_EQ(Losses("run").size(), 40u);
  EXPECT_EQ(Losses("run", "validation").size(), 4u);
  for (const char* file : {"config.json", "curves.csv", "curves.png"}) {
    EXPECT_TRUE(std::filesystem::exists(directory_ / (std::string("run/") + file))) << file;
  }
  ASSERT_EQ(ExpectWholeVersions(), 1);
  const auto repository = repository::Repository::Open(directory_ / "models").value();
  const repository::Manifest manifest = repository->ReadVersion("made", 1).value();
  EXPECT_EQ(manifest.trainer_step, 40);
  EXPECT_TRUE(manifest.metrics.contains("validation_loss")) << manifest.metrics.dump();

  ChildProcess again = Start("run");
  EXPECT_EQ(again.Wait(), 1);
  EXPECT_THAT(again.Errors(), HasSubstr("--resume"));
}

TEST_F(TrainTest, SigtermSavesAndTheResumedRunRepeatsTheUninterruptedOne) {
  RunToTheEnd("whole");
  ChildProcess process = Start("stopped");
  WaitForStep("stopped", 7, process);
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0) << process.Errors();
  EXPECT_THAT(process.Output(), HasSubstr("--resume goes on"));
  ASSERT_LT(Losses("stopped").size(), 40u);
  // Where it stopped, not only where a checkpoint was due.
  EXPECT_EQ(training::ListCheckpoints(directory_ / "stopped").value().back(),
            Losses("stopped").rbegin()->first);
  RunToTheEnd("stopped", {"--resume"});
  ExpectSameLosses(Losses("stopped"), Losses("whole"), 1e-6);
  ExpectSameLosses(Losses("stopped", "validation"), Losses("whole", "validation"), 1e-6);
}

TEST_F(TrainTest, KilledAtAnyMomentItLosesOnlyStepsSinceItsCheckpointAndPublishesNothingHalf) {
  config_["steps"] = 400;
  config_["validation"]["every_steps"] = 50;
  config_["publish"]["at_end"] = false;
  RunToTheEnd("whole");
  std::filesystem::remove_all(directory_ / "models");
  // Publishing takes most of the time of such a run.
  config_["publish"]["every_minutes"] = 1e-4;
  Draws draws(1, 0, 0);
  constexpr int kKills = 30;
  int killed_running = 0;
  for (int i = 0; i < kKills; ++i) {
    const auto before = training::ListCheckpoints(directory_ / "killed").value();
    ChildProcess process = Start("killed", {"--resume"});
    // Past the start once in a while, within it now and then.
    std::this_thread::sleep_for(std::chrono::milliseconds(200 + draws.Below(1200)));
    killed_running += process.Running() ? 1 : 0;
    process.Signal(SIGKILL);
    process.Wait();
    ExpectWholeVersions();
    const auto after = training::ListCheckpoints(directory_ / "killed").value();
    if (!before.empty()) {
      ASSERT_FALSE(after.empty());
      EXPECT_GE(after.back(), before.back());
    }
    // What was logged as saved is there.
    int64_t saved = 0;
    for (const nlohmann::json& line : Log("killed")) {
      if (line["event"] == "checkpoint") saved = line["step"];
    }
    EXPECT_GE(after.empty() ? 0 : after.back(), saved);
  }
  config_["publish"]["every_minutes"] = 0;
  RunToTheEnd("killed", {"--resume"});
  ExpectSameLosses(Losses("killed"), Losses("whole"), 1e-6);
  std::printf("killed %d times while running, %ld whole versions\n", killed_running,
              static_cast<long>(ExpectWholeVersions()));
  EXPECT_GT(killed_running, 0);
  EXPECT_GT(ExpectWholeVersions(), 0);
}

TEST_F(TrainTest, TwoTrainersPublishIntoOneRepositoryAtOnce) {
  config_["steps"] = 60;
  config_["publish"]["every_minutes"] = 1e-4;
  ChildProcess first = Start("first");
  config_["seed"] = 4;
  ChildProcess second = Start("second");
  EXPECT_EQ(first.Wait(), 0) << first.Errors();
  EXPECT_EQ(second.Wait(), 0) << second.Errors();
  std::set<int64_t> versions;
  for (const char* name : {"first", "second"}) {
    for (const nlohmann::json& line : Log(name)) {
      if (line["event"] != "publish") continue;
      ASSERT_TRUE(line.contains("version")) << line.dump();
      EXPECT_TRUE(versions.insert(line["version"].get<int64_t>()).second) << line.dump();
    }
  }
  EXPECT_GT(versions.size(), 2u);
  // Consecutive, and whole.
  EXPECT_EQ(*versions.rbegin(), static_cast<int64_t>(versions.size()));
  EXPECT_EQ(ExpectWholeVersions(), static_cast<int64_t>(versions.size()));
}

// As on a full disk, writing fails half way through a file.
TEST_F(TrainTest, AFullDiskPublishesNothingHalfAndNamesTheFile) {
  const auto start_limited = [&](const char* name, int kilobytes) {
    const std::string config = directory_ / (std::string(name) + ".json");
    std::ofstream(config) << config_.dump();
    return ChildProcess(
        "/bin/bash", {"-c", StrCat("trap '' XFSZ; ulimit -f ", kilobytes, "; exec \"$@\""), "bash",
                      DREAMSTATE_TRAINER, "train", "--config", config, "--run", directory_ / name});
  };
  // A checkpoint holds three fp32 copies of the model and the bank, a version one in bf16.
  config_["checkpoint"]["every_steps"] = 0;
  config_["steps"] = 5;
  config_["publish"]["every_minutes"] = 1e-4;
  ChildProcess process = start_limited("small", 40);
  EXPECT_EQ(process.Wait(), 1) << process.Output();
  EXPECT_THAT(process.Errors(), AllOf(HasSubstr("learner.safetensors"), HasSubstr("small")));
  EXPECT_THAT(training::ListCheckpoints(directory_ / "small").value(), ::testing::IsEmpty());
  EXPECT_EQ(ExpectWholeVersions(), 0);
  bool told = false;
  for (const nlohmann::json& line : Log("small")) {
    if (line["event"] == "publish") told = line.contains("error");
  }
  EXPECT_TRUE(told) << "the log says that publishing failed";
  // With room again the run goes on.
  RunToTheEnd("small", {"--resume"});
  EXPECT_GT(ExpectWholeVersions(), 0);
}

TEST_F(TrainTest, MetricsTellWhereTheRunIs) {
  config_["steps"] = 100000;
  const int port = FreePort();
  ChildProcess process = Start("run", {"--admin-address", StrCat("127.0.0.1:", port)});
  WaitForStep("run", 11, process);
  const std::string metrics = HttpGet(port, "/metrics");
  for (const char* name :
       {"dreamstate_training_step ", "dreamstate_training_steps 100000",
        "dreamstate_training_loss_nats ", "dreamstate_training_validation_loss_nats ",
        "dreamstate_training_checkpoint_step ", "dreamstate_training_tokens_per_second ",
        "dreamstate_training_publications_total{outcome=\"published\"} 0"}) {
    EXPECT_THAT(metrics, HasSubstr(name));
  }
  ChildProcess wrong = Start("wrong", {"--admin-address", StrCat("127.0.0.1:", port, ",", port)});
  EXPECT_EQ(wrong.Wait(), 1);
  EXPECT_THAT(wrong.Errors(), HasSubstr("--admin-address: expected host:port"));
  ChildProcess second = Start("other", {"--admin-address", StrCat("127.0.0.1:", port)});
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_THAT(second.Errors(), HasSubstr("--admin-address"));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
}

TEST_F(TrainTest, TwoRanksGiveTheResultOfOne) {
  config_["steps"] = 12;
  RunToTheEnd("one");
  const std::string port = std::to_string(FreePort());
  std::vector<ChildProcess> ranks;
  for (const char* rank : {"0", "1"}) {
    ranks.push_back(Start("two", {}, OfTwoRanks(rank, port)));
  }
  for (ChildProcess& rank : ranks) EXPECT_EQ(rank.Wait(), 0) << rank.Errors();
  EXPECT_EQ(ranks[1].Output(), "");
  ExpectSameLosses(Losses("two"), Losses("one"), 1e-5);
  ExpectSameLosses(Losses("two", "validation"), Losses("one", "validation"), 1e-5);
}

TEST_F(TrainTest, OneRankThatIsToldToStopStopsBothAndALostOneIsNamed) {
  config_["steps"] = 100000;
  const auto start = [&](const std::string& name, const char* rank, const std::string& port) {
    return Start(name, {}, OfTwoRanks(rank, port));
  };
  {
    const std::string port = std::to_string(FreePort());
    ChildProcess first = start("told", "0", port);
    ChildProcess second = start("told", "1", port);
    WaitForStep("told", 3, first);
    second.Signal(SIGTERM);
    EXPECT_EQ(second.Wait(), 0) << second.Errors();
    EXPECT_EQ(first.Wait(), 0) << first.Errors();
  }
  const std::string port = std::to_string(FreePort());
  ChildProcess first = start("lost", "0", port);
  ChildProcess second = start("lost", "1", port);
  WaitForStep("lost", 3, first);
  second.Signal(SIGKILL);
  second.Wait();
  EXPECT_EQ(first.Wait(), 1);
  EXPECT_THAT(first.Errors(), HasSubstr("another rank is gone"));
}

TEST_F(TrainTest, RanksThatDifferAreRefused) {
  const auto both = [&](const std::string& first_run, const std::string& second_run,
                        const std::function<void()>& between,
                        const std::vector<std::string>& more = {}) {
    const std::string port = std::to_string(FreePort());
    ChildProcess first = Start(first_run, more, OfTwoRanks("0", port));
    between();
    ChildProcess second = Start(second_run, more, OfTwoRanks("1", port));
    EXPECT_EQ(first.Wait(), 1) << first.Output();
    EXPECT_EQ(second.Wait(), 1) << second.Output();
    return first.Errors();
  };
  config_["steps"] = 10;
  EXPECT_THAT(both("wide", "narrow", [&] { config_["model"]["width"] = 16; }),
              HasSubstr("expected the config and the corpus to be the same on all, found that of "
                        "rank 0 not on rank 1"));
  // Directories that are not one: rank 1 would begin anew.
  config_["model"]["width"] = 32;
  RunToTheEnd("here");
  config_["steps"] = 20;
  EXPECT_THAT(both("here", "there", [] {}, {"--resume"}),
              HasSubstr("--run is one directory that all ranks see"));
}

TEST_F(TrainTest, ABrokenPipeOrAHangupLosesNothing) {
  config_["steps"] = 30;
  const std::string config = directory_ / "piped.json";
  std::ofstream(config) << config_.dump();
  // The reader goes before the first line comes.
  ChildProcess piped("/bin/bash",
                     {"-c", "\"$@\" | true; exit ${PIPESTATUS[0]}", "bash", DREAMSTATE_TRAINER,
                      "train", "--config", config, "--run", directory_ / "piped"});
  EXPECT_EQ(piped.Wait(), 0) << piped.Errors();
  EXPECT_EQ(Losses("piped").size(), 30u);
  config_["steps"] = 100000;
  ChildProcess process = Start("hung");
  WaitForStep("hung", 3, process);
  process.Signal(SIGHUP);
  EXPECT_EQ(process.Wait(), 0) << process.Errors();
  EXPECT_FALSE(training::ListCheckpoints(directory_ / "hung").value().empty());
}

TEST_F(TrainTest, AResumedRunNeedsNoFileThatItBeganFrom) {
  RunToTheEnd("base");
  const std::string init = directory_ / "init.safetensors";
  const auto blobs = std::filesystem::directory_iterator(directory_ / "models/blobs/sha256");
  std::filesystem::copy_file(blobs->path(), init);
  config_.erase("publish");
  config_.erase("model");
  config_["init"] = init;
  config_["steps"] = 10;
  RunToTheEnd("tuned");
  const nlohmann::json config = nlohmann::json::parse(ReadAll(directory_ / "tuned/config.json"));
  EXPECT_EQ(config["model"]["width"], 32) << "the sizes are those of the file";
  std::filesystem::remove(init);
  config_["steps"] = 20;
  RunToTheEnd("tuned", {"--resume"});
  EXPECT_EQ(Losses("tuned").size(), 20u);
}

TEST_F(TrainTest, WhatNohupHadIgnoredStaysIgnored) {
  config_["steps"] = 100000;
  const std::string config = directory_ / "run.json";
  std::ofstream(config) << config_.dump();
  ChildProcess process("/bin/bash", {"-c", "trap '' HUP; exec \"$@\"", "bash", DREAMSTATE_TRAINER,
                                     "train", "--config", config, "--run", directory_ / "run"});
  WaitForStep("run", 3, process);
  process.Signal(SIGHUP);
  WaitForStep("run", Losses("run").rbegin()->first + 20, process);
  EXPECT_TRUE(process.Running());
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0) << process.Errors();
}

TEST_F(TrainTest, ARunWhoseDirectoryIsTakenAwayEndsBeforeItWritesIntoAnother) {
  config_["steps"] = 100000;
  config_["checkpoint"]["every_steps"] = 0;
  ChildProcess process = Start("run");
  WaitForStep("run", 3, process);
  std::filesystem::rename(directory_ / "run", directory_ / "away");
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_THAT(process.Errors(), HasSubstr("was removed or replaced"));
}

TEST_F(TrainTest, ARunThatDoesNotFitTheMemoryIsRefusedWithFigures) {
  config_["batch"] = {{"rows", 65536}, {"tokens", 1048576}};
  ChildProcess process = Start("run");
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_THAT(process.Errors(),
              AllOf(HasSubstr("memory: the run needs about"), HasSubstr("batch.rows")));
}

TEST_F(TrainTest, WhatCannotBePublishedIsSaidBeforeTheFirstStep) {
  const auto refusal = [&] {
    ChildProcess process = Start("run");
    EXPECT_EQ(process.Wait(), 1);
    EXPECT_FALSE(std::filesystem::exists(directory_ / "run/log.jsonl"));
    return process.Errors();
  };
  config_["publish"]["model"] = "../X y";
  EXPECT_THAT(refusal(), HasSubstr("publish.model: "));
  config_["publish"]["model"] = "made";
  config_["publish"]["repository"] = directory_ / "run.json";  // a file
  EXPECT_THAT(refusal(), HasSubstr("publish.repository: "));
  config_["publish"]["repository"] = directory_ / "models";
  config_["model"]["vocab"] = 100;
  config_["publish"] = nlohmann::json::object();
  EXPECT_THAT(refusal(), HasSubstr("model.vocab: expected at least 256"));
}

TEST_F(TrainTest, AWrongEnvironmentIsNamed) {
  EXPECT_THAT(
      [&] {
        ChildProcess process = Start("run", {}, {"RANK=2", "WORLD_SIZE=2"});
        EXPECT_EQ(process.Wait(), 1);
        return process.Errors();
      }(),
      AllOf(HasSubstr("RANK"), HasSubstr("0 to 1"), HasSubstr("\"2\"")));
}

}  // namespace
}  // namespace dreamstate::trainer
