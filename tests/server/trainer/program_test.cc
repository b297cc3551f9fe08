// The program as a script sees it: output and exit codes.
#include "tests/server/trainer/program.h"

#include <filesystem>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/core/tensors/pth_files.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::trainer {
namespace {

using ::testing::HasSubstr;
using testing::ReadAll;
using testing::Result;
using testing::RunTrainer;
using testing::TemporaryDirectory;

const char* const kTiny = "'" DREAMSTATE_TEST_DATA "/models/tiny-rwkv-7v0-834K-FP32.bin'";

TEST(Program, ImportPrintsWhatItPublished) {
  TemporaryDirectory directory;
  const std::string arguments =
      absl::StrCat("import ", kTiny, " --name tiny --repository '", directory / "models", "'");
  const Result text = RunTrainer(arguments);
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("tiny version 1"));
  EXPECT_THAT(text.out, HasSubstr("6915bd6ce8a0e6f2"));
  EXPECT_THAT(text.out,
              HasSubstr(" nats a token over 98 tokens; tolerance in nats a token: bf16 "));
  EXPECT_THAT(text.out, HasSubstr("\nweights      bits per byte fp32 "));
  EXPECT_THAT(text.out, HasSubstr("; int8 for "));
  EXPECT_THAT(text.out, ::testing::Not(HasSubstr("note ")));
  EXPECT_EQ(text.err, absl::StrCat("hint: serve it with \"dreamstate-server --repository ",
                                   directory / "models", " --store states\"\n"));
  const Result machine = RunTrainer(arguments + " --json");
  EXPECT_EQ(machine.code, 0) << machine.err;
  const auto json = nlohmann::json::parse(machine.out);
  EXPECT_EQ(machine.err, "");
  EXPECT_EQ(json["version"], 2);
  EXPECT_EQ(json["same_backbone_version"], 1);
  EXPECT_EQ(json["self_test"]["tokens"], 98);
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_EQ(json["config"]["layers"], 12);
  EXPECT_GT(json["self_test"]["expected_nll"], 0);
  EXPECT_THAT(RunTrainer(arguments).out, HasSubstr("note         same backbone as version 2\n"));
}

TEST(Program, AStateIsNamedAsOne) {
  TemporaryDirectory directory;
  for (const char* name : {"peft_time_state_bf16.pth", "state_pip_list_f32.pth"}) {
    const std::string file = absl::StrCat(DREAMSTATE_TEST_DATA "/golden/", name);
    const Result result = RunTrainer(
        absl::StrCat("import '", file, "' --name tiny --repository '", directory / "models", "'"));
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr(absl::StrCat("expected a model, found a state: keep it with "
                                                   "\"dreamstate states upload ",
                                                   file, "\"")));
  }
}

TEST(Program, CollectKeepsTheNewestVersions) {
  TemporaryDirectory directory;
  const std::string repository = absl::StrCat(" --repository '", directory / "models", "'");
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(RunTrainer(absl::StrCat("import ", kTiny, " --name tiny", repository)).code, 0);
  }
  const Result collected = RunTrainer(absl::StrCat("collect --keep 2 --grace 0s", repository));
  EXPECT_EQ(collected.code, 0) << collected.err;
  EXPECT_EQ(collected.out, "removed 1 version, 0 blobs and 0 temporary files: 0 bytes\n");
  EXPECT_THAT(directory.Names("models/bundles/tiny"), ::testing::ElementsAre("2.json", "3.json"));
  EXPECT_EQ(RunTrainer("collect --keep 2 --repository /nowhere").code, 1);
  EXPECT_EQ(RunTrainer(absl::StrCat("collect --keep 2 --grace soon", repository)).code, 2);
  const Result none = RunTrainer(absl::StrCat("collect --keep 0", repository));
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("collect: --keep: expected at least 1, found 0\n"));
}

TEST(Program, AFailureIsOneLineAndOne) {
  TemporaryDirectory directory;
  const std::string rest = absl::StrCat(" --name tiny --repository '", directory / "models", "'");
  for (const std::string& file : {std::string("/nowhere"), directory.path(), std::string("''")}) {
    const Result result = RunTrainer(absl::StrCat("import ", file, rest));
    EXPECT_EQ(result.code, 1) << file;
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(absl::StartsWith(result.err, "dreamstate-trainer import: ")) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST(Program, RunningOutOfMemoryIsOneLineAndOneToo) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer needs more address space than the limit";
#endif
  // A million containers, which take more than a hundred megabytes to read.
  std::string body = "(";
  for (int i = 0; i < 250'000; ++i) body += ")]}N";
  TemporaryDirectory directory;
  testing::WriteAll(directory / "many.pth",
                    tensors::testing::Checkpoint(tensors::testing::Program(body + "t"), {}));
  const std::string arguments =
      absl::StrCat("import '", directory / "many.pth", "' --name tiny --repository '",
                   directory / "models", "'");
  EXPECT_THAT(RunTrainer(arguments).err, ::testing::Not(HasSubstr("memory")));
  // The least address space that the program's libraries fit in, to 50 MB, and as much again.
  int kilobytes = 50'000;
  const auto limit = [&] { return absl::StrCat("ulimit -v ", kilobytes, "; "); };
  while (RunTrainer("--version", limit()).code != 0) {
    kilobytes += 50'000;
    ASSERT_LT(kilobytes, 8'000'000);
  }
  kilobytes += 50'000;
  const Result result = RunTrainer(arguments, limit());
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "dreamstate-trainer import: no memory left\n");
}

TEST(Program, WrongUsageIsTwo) {
  for (const char* arguments :
       {"", "frobnicate", "import", "import x", "import x --name y",
        "import x --name y --repository z --end-token many", "import x y --name n --repository z",
        "import x --name y --repository z --unknown", "import x --name 'Bad Name' --repository z",
        "import x --name y --repository z --tokenizer foo",
        "import x --name y --repository z --chat-template hello",
        "collect --repository z --keep 1 --grace -1h"}) {
    const Result result = RunTrainer(arguments);
    EXPECT_EQ(result.code, 2) << arguments;
    EXPECT_TRUE(absl::StartsWith(result.err, "dreamstate-trainer")) << result.err;
  }
  EXPECT_THAT(RunTrainer("import x --name y").err,
              HasSubstr("dreamstate-trainer import: --repository is required\n"));
}

TEST(Program, AWordThatIsNoCommandIsNamed) {
  for (const char* arguments : {"frobnicate", "frobnicate --help", "frobnicate --name x"}) {
    const Result result = RunTrainer(arguments);
    EXPECT_EQ(result.code, 2) << arguments;
    EXPECT_EQ(result.err,
              "dreamstate-trainer: no such command: frobnicate; dreamstate-trainer --help lists "
              "them\n");
  }
  EXPECT_THAT(RunTrainer("evaluate hybrids --help").err,
              HasSubstr("dreamstate-trainer evaluate: no such command: hybrids;"));
}

TEST(Program, TheConfigOfARunIsExplainedAndPrinted) {
  const Result printed = RunTrainer("train --print-config");
  EXPECT_EQ(printed.code, 0) << printed.err;
  const auto defaults = nlohmann::json::parse(printed.out);
  EXPECT_EQ(defaults["model"]["width"], 256);
  const Result help = RunTrainer("train --help");
  // Every key that can be printed is explained.
  for (const auto& [section, keys] : defaults.items()) {
    if (!keys.is_object()) {
      EXPECT_THAT(help.out, HasSubstr(absl::StrCat("\n  ", section, " ")));
      continue;
    }
    for (const auto& [key, value] : keys.items()) {
      EXPECT_THAT(help.out, HasSubstr(absl::StrCat("\n  ", section, ".", key, " ")));
    }
  }
  TemporaryDirectory directory;
  testing::WriteAll(directory / "run.json", R"({"steps": 7, "data": {"corpus": "c"}})");
  const Result mine =
      RunTrainer(absl::StrCat("train --print-config --config '", directory / "run.json", "'"));
  EXPECT_EQ(nlohmann::json::parse(mine.out)["steps"], 7);
  EXPECT_EQ(nlohmann::json::parse(mine.out)["optimiser"], defaults["optimiser"]);
  const Result neither = RunTrainer("train");
  EXPECT_EQ(neither.code, 2);
  EXPECT_THAT(neither.err, HasSubstr("train: --config is required"));
}

TEST(Program, ALabelWithoutDocumentsToSelectOrReportByIsNamed) {
  TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "texts/poems");
  testing::WriteAll(directory / "texts/poems/one.txt", std::string(2500, 'x'));
  const Result result = RunTrainer(
      absl::StrCat("corpus '", directory / "texts", "' --to '", directory / "corpus", "'"));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("document: poems ("));
  EXPECT_THAT(result.out, HasSubstr("2.5 KB"));
}

TEST(Program, HelpAndVersionAreNoErrors) {
  const Result help = RunTrainer("--help");
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:"));
  EXPECT_THAT(help.out, HasSubstr("Exit codes: 0 done, 1 failed, 2 wrong usage."));
  EXPECT_THAT(RunTrainer("import --help").out, HasSubstr("Examples:"));
  const Result version = RunTrainer("--version");
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out, "dreamstate-trainer " DREAMSTATE_VERSION "\n");
}

}  // namespace
}  // namespace dreamstate::trainer
