// The story as a person types it: our command line against our server.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::ServerProcess;
using testing::Session;
using ::testing::SizeIs;

struct Ran {
  int code = -1;
  std::string output;
  std::string errors;
  std::vector<json> lines() const {
    std::vector<json> result;
    std::istringstream stream(output);
    for (std::string line; std::getline(stream, line);) {
      result.push_back(json::parse(line, nullptr, false));
      EXPECT_FALSE(result.back().is_discarded()) << line;
    }
    return result;
  }
};

class CommandLine : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<ServerProcess>(ServerProcess::Setup{
        .repository = DREAMSTATE_TEST_DATA "/repository", .store = directory_ / "store"});
    ASSERT_TRUE(server_->WaitUntilListening());
    Session(server_->address()).WaitServing();
  }

  // `arguments` as a shell takes them.
  Ran Run(const std::string& arguments) {
    const std::string command = DREAMSTATE_CLI_BINARY " --server " + server_->address() + " " +
                                arguments + " > " + (directory_ / "out") + " 2> " +
                                (directory_ / "err") + " < /dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, testing::ReadAll(directory_ / "out"),
            testing::ReadAll(directory_ / "err")};
  }

  std::string Harvest(const std::string& text) {
    const Ran ran = Run("--json states harvest --text '" + text + "' --label story");
    EXPECT_EQ(ran.code, 0) << ran.errors;
    for (const json& line : ran.lines()) {
      if (line.contains("state")) return line["state"]["state"]["name"];
    }
    ADD_FAILURE() << ran.output;
    return "";
  }

  // Text of each branch.
  std::map<int, std::string> Decode(const std::string& arguments) {
    const Ran ran = Run("--json decode " + arguments);
    EXPECT_EQ(ran.code, 0) << ran.errors;
    std::map<int, std::string> texts;
    for (const json& line : ran.lines()) {
      if (!line.contains("piece")) continue;
      texts[line["piece"]["branch"].get<int>()] +=
          line["piece"]["piece"]["text"].get<std::string>();
    }
    return texts;
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(CommandLine, TellsTheWholeStory) {
  const Ran models = Run("--json models");
  ASSERT_EQ(models.code, 0) << models.errors;
  EXPECT_EQ(models.lines().at(0)["servingVersion"], "models/tiny/versions/1");

  const std::string state = Harvest("Once upon a time there was a king");
  const Ran list = Run("--json states list --label story");
  ASSERT_EQ(list.code, 0) << list.errors;
  EXPECT_EQ(list.lines().at(0)["name"], state);

  const auto branches = Decode("--from " + state + " --branches 3 --max-tokens 12 --seed 5");
  EXPECT_THAT(branches, SizeIs(3));
  EXPECT_EQ(Decode("--from " + state + " --branches 3 --max-tokens 12 --seed 5"), branches);

  const Ran score =
      Run("--json score 'Once upon a time there was a king' --from " + state + " --from empty");
  ASSERT_EQ(score.code, 0) << score.errors;
  ASSERT_THAT(score.lines(), SizeIs(2));
  EXPECT_EQ(score.lines()[0]["source"], state);
  EXPECT_NE(score.lines()[0]["totalNats"], score.lines()[1]["totalNats"]);

  const Ran saved = Run("--json decode --from " + state + " --max-tokens 8 --save --label kept");
  ASSERT_EQ(saved.code, 0) << saved.errors;
  const std::string next = saved.lines().back()["finish"]["savedState"]["name"];
  EXPECT_THAT(Decode("--from " + next + " --max-tokens 5"), SizeIs(1));
  EXPECT_EQ(Run("states label " + next + " favourite --remove kept").code, 0);
  const Ran shown = Run("--json states show " + next);
  EXPECT_EQ(shown.lines().at(0)["labels"], json::array({"favourite"}));
  EXPECT_EQ(shown.lines().at(0)["lineage"]["parents"], json::array({state}));
  EXPECT_EQ(Run("states delete " + next).code, 0);
  EXPECT_EQ(Run("states show " + next).code, 1);
}

TEST_F(CommandLine, MovesStatesThroughFilesAndLooksIntoThem) {
  const std::string state = Harvest("Once upon a time there was a king");
  for (const std::string layout : {"dreamstate", "canonical", "rwkv"}) {
    const std::string file = directory_ / layout;
    const Ran down = Run("--json states download " + state + " -o " + file + " --layout " + layout +
                         (layout == "rwkv" ? " --dtype fp32" : ""));
    ASSERT_EQ(down.code, 0) << down.errors;
    EXPECT_EQ(down.lines().at(0)["file"], file);
    EXPECT_EQ(Run("states download " + state + " -o " + file).code, 2) << "it is there";
    const Ran up = Run("--json states upload " + file + " --label copy --tokens 33" +
                       (layout == "dreamstate" ? "" : " --layout " + layout));
    ASSERT_EQ(up.code, 0) << layout << ": " << up.errors;
    const std::string copy = up.lines().at(0)["name"];
    const Ran compared = Run("--json states compare " + state + " " + copy);
    ASSERT_EQ(compared.code, 0) << compared.errors;
    EXPECT_EQ(compared.lines().at(0)["total"]["relativeDistance"], 0) << layout;
    // Other layouts have no place for what foretells the next token.
    EXPECT_EQ(compared.lines().at(0)["identical"], layout == "dreamstate") << layout;
    EXPECT_EQ(Decode("--from " + copy + " ' and' --max-tokens 12 --seed 5"),
              Decode("--from " + state + " ' and' --max-tokens 12 --seed 5"));
  }
  EXPECT_EQ(Run("states upload " + (directory_ / "err")).code, 2) << "empty";
  EXPECT_EQ(Run("states upload " DREAMSTATE_TEST_DATA "/README.md").code, 1) << "no state";

  const Ran shown = Run("states show " + state + " --map norm --png " + (directory_ / "map.png"));
  ASSERT_EQ(shown.code, 0) << shown.errors;
  EXPECT_THAT(shown.output, HasSubstr("Spectral norm of every matrix"));
  EXPECT_THAT(testing::ReadAll(directory_ / "map.png"), ::testing::StartsWith("\x89PNG"));

  const Ran saved = Run("--json decode --from " + state + " --max-tokens 8 --save --label kept");
  const std::string child = saved.lines().back()["finish"]["savedState"]["name"];
  const Ran lineage = Run("states lineage " + child);
  ASSERT_EQ(lineage.code, 0) << lineage.errors;
  EXPECT_THAT(lineage.output, ::testing::StartsWith("o " + state + "  harvest, 33 tokens"));
  EXPECT_THAT(lineage.output, HasSubstr("* " + child + "  decode"));

  EXPECT_EQ(Run("--json states delete --label copy --dry-run").lines().at(0)["states"], "3");
  EXPECT_EQ(Run("states delete --label copy").code, 2) << "nobody there to ask";
  EXPECT_EQ(Run("--json states delete --label copy --yes").lines().at(0)["states"], "3");
  EXPECT_EQ(Run("states list --label copy").output, "");
}

TEST_F(CommandLine, DecodesABatch) {
  const std::string state = Harvest("Once upon a time");
  const std::string file = directory_ / "batch";
  std::ofstream(file) << R"({"id": "a", "source": ")" << state << R"(", "maxTokens": 12})"
                      << "\n"
                         R"({"id": "b", "prompt": "x", "sampling": {"topP": 7}})"
                         "\n"
                      << R"({"prompt": "Once upon a time", "maxTokens": 5, "branches": 2})"
                         "\n";
  const Ran ran = Run("decode --batch " + file + " --seed 5");
  EXPECT_EQ(ran.code, 1) << ran.errors;
  std::map<std::string, json> answers;
  for (const json& line : ran.lines()) answers[line["id"]] = line;
  ASSERT_THAT(answers, SizeIs(3));
  EXPECT_EQ(answers["a"]["branches"][0]["text"],
            Decode("--from " + state + " --max-tokens 12 --seed 5")[0])
      << "the same as alone";
  EXPECT_THAT(answers["b"]["error"]["message"].get<std::string>(), HasSubstr("top_p"));
  EXPECT_THAT(answers["3"]["branches"], SizeIs(2));
}

TEST_F(CommandLine, SaysWhyTheServerRefuses) {
  const Ran missing = Run("states show states/nosuch");
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.errors, HasSubstr("states/nosuch"));
  const Ran bad = Run("decode --top-p 7 x");
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.errors, HasSubstr("top_p"));
  EXPECT_EQ(server_->Stop(), 0);
  const Ran nobody = Run("models");
  EXPECT_EQ(nobody.code, 3);
  EXPECT_THAT(nobody.errors, HasSubstr(server_->address()));
}

}  // namespace
}  // namespace dreamstate
