// The story as a person types it: our command line against our server.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
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
        .repository = DREAMSTATE_STARTER "/repository", .store = directory_ / "store"});
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
