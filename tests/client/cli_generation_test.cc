// What the program does to make states: generate, edit, remake.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli_fixture.h"

namespace dreamstate::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class CliGenerationTest : public CliTest {
 protected:
  CliGenerationTest() {
    AddState("states/x", 2, 3);
    AddState("states/y", 2, 3);
  }
  // The request of an edit that succeeded.
  v1::EditStateRequest Edited(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"states", "edit"});
    const Process::Result result = Cli(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("changed by 0.250 of its norm, which is 0.900 of what it "
                                      "was; energy 0.2000 -> 0.1000\n"));
    return server_.edits().back();
  }
};

TEST_F(CliGenerationTest, ConditionsHaveWeightsAndWordsAreOneCondition) {
  const Process::Result result =
      Cli({"states",    "generate", "--of",        "c",       "--of",    "go=-0.5", "--of",
           "a=b",       "--like",   "once upon=2", "--about", "red",     "--about", "wine",
           "--samples", "2",        "--seed",      "5",       "--steps", "20",      "--solver",
           "euler",     "--label",  "made",        "--ttl",   "1h"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "states/s1  gate: energy 0.5 is not within 0 to 0.25\n"
            "states/s2  gate: energy 0.5 is not within 0 to 0.25\n");
  EXPECT_THAT(result.err, HasSubstr("2 states in"));
  EXPECT_THAT(result.err, HasSubstr("seed 5"));
  const v1::GenerateStatesRequest request = server_.generations().at(0);
  ASSERT_EQ(request.conditions_size(), 5);
  EXPECT_EQ(request.conditions(0).label(), "c");
  EXPECT_FALSE(request.conditions(0).has_weight());
  EXPECT_EQ(request.conditions(1).label(), "go");
  EXPECT_EQ(request.conditions(1).weight(), -0.5f);
  EXPECT_EQ(request.conditions(2).label(), "a=b");
  EXPECT_EQ(request.conditions(3).text().text(), "once upon");
  EXPECT_EQ(request.conditions(3).weight(), 2);
  EXPECT_THAT(request.conditions(4).keywords().words(), ElementsAre("red", "wine"));
  EXPECT_EQ(request.options().steps(), 20);
  EXPECT_EQ(request.options().solver(), v1::GenerationOptions::EULER);
  EXPECT_EQ(request.annotations().time_to_live().seconds(), 3600);
  EXPECT_FALSE(request.request_id().empty());
}

TEST_F(CliGenerationTest, WhatWasChosenOrRejectedIsTold) {
  const Process::Result result = Cli({"states", "generate", "--best-of", "4", "--score-text",
                                      "some text", "--strict", "--mode", "sample"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "states/s1  1.5000 bits per byte (worst 2.0000)  gate: passed  (after 1 rejected "
            "draw)\n");
  const v1::GenerateStatesRequest request = server_.generations().at(0);
  EXPECT_EQ(request.best_of().candidates(), 4);
  EXPECT_EQ(request.best_of().text().text(), "some text");
  EXPECT_TRUE(request.strict());
}

TEST_F(CliGenerationTest, KeepingPartOfAStateNeedsBothSides) {
  Process::Result result =
      Cli({"states", "generate", "--keep-from", "x", "--layers", "0,1", "--heads", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const v1::GenerateStatesRequest request = server_.generations().at(0);
  EXPECT_EQ(request.inpainting().state(), "states/x");
  EXPECT_THAT(request.inpainting().keep().layers(), ElementsAre(0, 1));
  EXPECT_THAT(request.inpainting().keep().heads(), ElementsAre(2));
  const int before = server_.calls();
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--keep-from", "x"},
                                                {"--layers", "0"},
                                                {"--best-of", "4"},
                                                {"--score-text", "a"},
                                                {"--mode", "best"},
                                                {"--solver", "rk4"}}) {
    std::vector<std::string> arguments = {"states", "generate"};
    arguments.insert(arguments.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(Cli(arguments).exit_code, 2) << wrong[0];
  }
  EXPECT_EQ(server_.calls(), before);
}

TEST_F(CliGenerationTest, JsonIsOneMessageALine) {
  const Process::Result result = Cli({"states", "generate", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("{\"start\":{"));
  EXPECT_THAT(result.out, HasSubstr("\n{\"state\":{"));
  EXPECT_THAT(result.out, HasSubstr("\n{\"summary\":{"));
}

TEST_F(CliGenerationTest, EveryOperationFillsItsRequest) {
  using R = v1::EditStateRequest;
  R request = Edited({"interpolate", "x", "y", "--fraction", "0.25", "--path", "spherical"});
  EXPECT_EQ(request.state(), "states/x");
  EXPECT_EQ(request.interpolate().other(), "states/y");
  EXPECT_EQ(request.interpolate().fraction(), 0.25f);
  EXPECT_EQ(request.interpolate().path(), R::Interpolate::SPHERICAL);
  request = Edited({"blend", "x", "y=0.7", "z", "--weight", "0.3"});
  EXPECT_EQ(request.blend().weight(), 0.3f);
  EXPECT_EQ(request.blend().others(0).weight(), 0.7f);
  EXPECT_EQ(request.blend().others(1).state(), "states/z");
  EXPECT_FALSE(request.blend().others(1).has_weight());
  request = Edited({"project", "x", "--noise", "0.2", "--of", "c", "--seed", "3"});
  EXPECT_EQ(request.project().noise(), 0.2f);
  EXPECT_EQ(request.project().conditions(0).label(), "c");
  EXPECT_EQ(request.project().options().seed(), 3u);
  request = Edited({"translate", "x", "--from-label", "c", "--to-label", "go=2"});
  EXPECT_EQ(request.translate().from(0).label(), "c");
  EXPECT_EQ(request.translate().to(0).weight(), 2);
  request = Edited({"inpaint", "x", "--layers", "1", "--of", "c"});
  EXPECT_TRUE(request.has_inpaint());
  EXPECT_THAT(request.mask().layers(), ElementsAre(1));
  request = Edited({"add", "x", "--plus", "y", "--weight", "0.5", "--then-project", "0.1"});
  EXPECT_EQ(request.arithmetic().directions(0).plus(), "states/y");
  EXPECT_EQ(request.arithmetic().directions(0).weight(), 0.5f);
  EXPECT_EQ(request.then_project().noise(), 0.1f);
  request = Edited({"scale", "x", "--factor", "2", "--probe", "text", "--strict", "--label", "l"});
  EXPECT_EQ(request.scale().factor(), 2);
  EXPECT_EQ(request.probe().text(), "text");
  EXPECT_TRUE(request.strict());
  EXPECT_THAT(request.annotations().labels(), ElementsAre("l"));
  EXPECT_THAT(Cli({"states", "edit", "scale", "x", "--factor", "2", "--probe", "text"}).out,
              HasSubstr("probe: 2.0000 -> 1.7500 bits per byte\n"));
}

TEST_F(CliGenerationTest, AStateIsMadeAgainFromItsLineage) {
  ASSERT_EQ(Cli({"states", "generate", "--of", "c", "--seed", "5"}).exit_code, 0);
  ASSERT_EQ(Cli({"states", "edit", "scale", "x", "--factor", "2"}).exit_code, 0);
  Process::Result result = Cli({"states", "remake", "s1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "states/s3\ndiffers by 0.5 of its norm\n");
  EXPECT_EQ(server_.generations().back().conditions(0).label(), "c");
  EXPECT_EQ(server_.generations().back().options().seed(), 5u);
  EXPECT_EQ(Cli({"states", "remake", "s2"}).exit_code, 0);
  EXPECT_EQ(server_.edits().back().scale().factor(), 2);
  result = Cli({"states", "remake", "x"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("only generated and edited states are made again"));
}

}  // namespace
}  // namespace dreamstate::client
