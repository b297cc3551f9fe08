// The program as scripts see it: arguments in; stdout, stderr and an exit code out.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/cli_fixture.h"
#include "tests/client/fake_server.h"
#include "tests/client/process.h"

namespace dreamstate::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// ---- the command line itself

TEST_F(CliTest, VersionAndHelpSucceed) {
  EXPECT_THAT(RunCli({"--version"}).out, StartsWith("dreamstate 0."));
  const Process::Result help = RunCli({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("Exit codes: 0 done, 1"));
}

TEST_F(CliTest, EveryCommandsHelpHasExamples) {
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"models", "list"},
                                             {"models", "show"},
                                             {"models", "versions"},
                                             {"models", "reload"},
                                             {"models", "pin"},
                                             {"models", "unpin"},
                                             {"states", "compare"},
                                             {"states", "lineage"},
                                             {"states", "download"},
                                             {"states", "upload"},
                                             {"states", "harvest"},
                                             {"states", "list"},
                                             {"states", "show"},
                                             {"states", "label"},
                                             {"states", "delete"},
                                             {"decode"},
                                             {"score"},
                                             {"chat"}}) {
    std::vector<std::string> arguments = command;
    arguments.push_back("--help");
    const Process::Result help = RunCli(arguments);
    EXPECT_EQ(help.exit_code, 0) << command.back();
    EXPECT_THAT(help.out, HasSubstr(absl::StrCat("Examples:\n  dreamstate ", command[0])))
        << command.back();
  }
}

TEST_F(CliTest, AWrongCommandLineIsNamedInOneLine) {
  EXPECT_EQ(RunCli({"decode", "innocent words", "--no-such-flag=3", "more"}).err,
            "dreamstate: unknown flag --no-such-flag; \"dreamstate decode --help\" says what there "
            "is\n");
  EXPECT_EQ(RunCli({"states", "compare", "x"}).err,
            "dreamstate: OTHER is required; \"dreamstate states compare --help\" says what there "
            "is\n");
  EXPECT_EQ(RunCli({"--server", "http://localhost:50051", "models"}).err,
            "dreamstate: not an address: 'http://localhost:50051'; expected host:port, without "
            "http://\n");
}

TEST_F(CliTest, WrongUsageExitsWith2AndAsksNothing) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"dream"},
           {"decode", "--no-such-flag"},
           {"decode", "--branches", "0"},
           {"decode", "--branches", "x"},
           {"decode", "text", "--file", "file"},
           {"decode", "--label", "l"},
           {"decode", "--bias", "7"},
           {"decode", "--stop", "\xff"},
           {"--timeout", "soon", "models"},
           {"--timeout=-5s", "models"},
           {"--server", "", "models"},
           {"states"},
           {"states", "harvest"},
           {"states", "show"},
           {"states", "show", "x", "--map", "volume"},
           {"states", "show", "x", "--force"},
           {"states", "compare", "x"},
           {"states", "lineage", "x", "--up", "0"},
           {"states", "lineage", "x", "--dot", "--json"},
           {"states", "download", "x", "--layout", "zip"},
           {"states", "download", "x", "--output", "/"},
           {"states", "download", "x", "--output", "/dev/null", "--force"},
           {"states", "download", "x", "--output", "-", "--json"},
           {"states", "upload"},
           {"states", "upload", "/nowhere"},
           {"states", "upload", "/dev/null"},
           {"states", "upload", "x", "--tokens", "-1"},
           {"states", "delete"},
           {"states", "delete", "x", "--label", "l"},
           {"states", "delete", "x", "--dry-run"},
           {"states", "delete", "--label", "l"},
           {"states", "delete", "--all"},
           {"models", "pin", "alpha"},
           {"models", "pin", "models/alpha/versions/3", "3"},
           {"models", "reload"},
           {"decode", "text", "--batch", "file"},
           {"decode", "--batch", "/nowhere"},
           {"states", "label", "x"},
           {"states", "harvest", "--every", "1", "--positions", "1", "--text", "x"},
           {"score"},
           {"score", ""},
           {"chat", "--template", "no place"},
           {"--json", "chat"}}) {
    std::vector<std::string> words = {"--server", server_.address()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    const Process::Result result = RunCli(words);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.err;
    EXPECT_NE(result.err, "") << testing::PrintToString(arguments);
  }
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(CliTest, TheServersAddressComesFromTheEnvironmentToo) {
  EXPECT_EQ(RunCli({"models"}, "", {{"DREAMSTATE_SERVER", server_.address()}}).exit_code, 0);
  EXPECT_GT(server_.calls(), 0);
}

TEST_F(CliTest, NoServerExitsWith3AndSaysWhere) {
  const Process::Result result = RunCli({"--server", "127.0.0.1:1", "models"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("dreamstate: 127.0.0.1:1: no server answers: "));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST_F(CliTest, ARefusalExitsWith1AndExplainsItself) {
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("sampling.top_p");
  server_.FailNext(
      ErrorWith(grpc::StatusCode::INVALID_ARGUMENT, "must be in [0, 1], found 2", bad));
  const Process::Result result = Cli({"decode", "x", "--top-p", "2"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err,
            "dreamstate: invalid argument: sampling.top_p: must be in [0, 1], found 2\n");
}

TEST_F(CliTest, TheTimeoutEndsACall) {
  server_.HangAfter(0);
  const Process::Result result = Cli({"--timeout", "50ms", "score", "x"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, StartsWith("dreamstate: out of time"));
}

TEST_F(CliTest, AFullDiskBehindStdoutIsAnError) {
  const std::string command = std::string(DREAMSTATE_CLI) + " --server " + server_.address() +
                              " models > /dev/full 2> /dev/null";
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

// ---- models

TEST_F(CliTest, ModelsAreATableOrJsonLines) {
  const Process::Result table = Cli({"models"});
  EXPECT_EQ(
      table.out,
      "MODEL         SERVING    PARAMETERS  LAYERS  WIDTH  TOKENIZER  WEIGHTS  DEVICE    STATE\n"
      "models/alpha  version 3        834K       2     64  byte       fp32     cpu/test  2.0 KiB\n"
      "models/beta   version 3        834K       2     64  byte       fp32     cpu/test  2.0 "
      "KiB\n");
  EXPECT_EQ(Cli({"models", "list"}).out, table.out);
  const Process::Result json = Cli({"models", "show", "alpha", "--json"});
  EXPECT_EQ(
      json.out,
      "{\"name\":\"models/alpha\",\"servingVersion\":\"models/alpha/versions/"
      "3\",\"backbone\":{\"layers\":2,"
      "\"width\":64,\"heads\":0,\"headSize\":0,\"ffnWidth\":0,\"vocabSize\":0,\"rankDecay\":0,"
      "\"rankIclr\":0,"
      "\"rankValue\":0,\"rankGate\":0,\"parameters\":\"834000\"},\"backboneFingerprint\":\"f1\","
      "\"tokenizer\":\"byte\",\"endToken\":0,\"separatorToken\":0,\"weightFormat\":\"fp32\","
      "\"device\":\"cpu/test\",\"stateBytes\":\"2048\",\"chatTemplate\":\"\",\"follow\":\"ALL\","
      "\"pinnedVersion\":\"\",\"otherLiveVersions\":[],\"matricesByFormat\":{}}\n");
}

TEST_F(CliTest, ARejectedVersionShowsItsReason) {
  EXPECT_THAT(Cli({"models", "versions", "alpha"}).out, HasSubstr("failed"));
  EXPECT_THAT(Cli({"models", "versions", "alpha"}).out, HasSubstr("self-test: not finite"));
  const Process::Result missing = Cli({"models", "show", "gamma"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_EQ(missing.err, "dreamstate: not found: no such model; models/gamma\n");
}

TEST_F(CliTest, AReloadThatEndsInARejectionSaysSoAndExitsWith1) {
  server_.RejectNewest("self-test: 2.5 nats");
  const Process::Result result = Cli({"models", "reload", "alpha"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "models/alpha  serves models/alpha/versions/3\n");
  EXPECT_THAT(result.err, HasSubstr("dreamstate: version 4 was rejected: self-test: 2.5 nats\n"));
  EXPECT_EQ(Cli({"models", "reload", "alpha", "--json"}).exit_code, 1);
  EXPECT_EQ(Cli({"models", "reload", "alpha", "--no-wait"}).exit_code, 0) << "not decided yet";
  EXPECT_THAT(Cli({"models"}).out, HasSubstr("models/alpha  version 3 (4 failed)"));

  ASSERT_EQ(Cli({"models", "pin", "alpha", "3"}).exit_code, 0);
  EXPECT_EQ(Cli({"models", "reload", "alpha"}).exit_code, 0) << "the pin asks for version 3 alone";
  ASSERT_EQ(Cli({"models", "pin", "alpha", "2"}).exit_code, 0);
  EXPECT_THAT(Cli({"models", "reload", "alpha"}).err, HasSubstr("version 2 was rejected"));
}

// ---- states

TEST_F(CliTest, HarvestReadsFilesAndPrintsTheirStates) {
  const std::string a = WriteFile("a.txt", "hello");
  const std::string b = WriteFile("b.bin", "caf\xe9!");
  const Process::Result result =
      Cli({"states", "harvest", a, b, "--label", "x", "--label", "y", "--ttl", "1d12h", "--from",
           "s0", "--keep-tokens", "--append-separator"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, absl::StrCat("states/s1         5 tokens  ", a,
                                     "\nstates/s2         5 tokens  ", b, "\n"));
  EXPECT_EQ(result.err, "2 states of 2 documents, 10 tokens in 0.25 s\n") << "no bar into a pipe";
  const v1::HarvestOptions options = server_.harvests().at(0);
  EXPECT_THAT(options.annotations().labels(), ElementsAre("x", "y"));
  EXPECT_EQ(options.annotations().time_to_live().seconds(), 36 * 3600);
  EXPECT_EQ(options.source_state(), "states/s0");
  EXPECT_TRUE(options.keep_tokens());
  const auto documents = server_.documents();
  EXPECT_EQ(documents.at(0).content().text(), "hello");
  EXPECT_EQ(documents.at(1).content().raw(), "caf\xe9!") << "not UTF-8";
  EXPECT_TRUE(documents.at(0).append_separator());
}

TEST_F(CliTest, HarvestTakesPositionsTextAndStandardInput) {
  EXPECT_EQ(Cli({"states", "harvest", "--text", "abcdef", "--positions", "2,4"}).exit_code, 0);
  EXPECT_THAT(server_.documents().at(0).positions().values(), ElementsAre(2, 4));
  EXPECT_EQ(Cli({"states", "harvest", "-", "--every", "3"}, "from a pipe").exit_code, 0);
  EXPECT_EQ(server_.documents().at(1).id(), "stdin");
  EXPECT_EQ(server_.documents().at(1).content().text(), "from a pipe");
  EXPECT_EQ(server_.documents().at(1).every_n(), 3);
}

TEST_F(CliTest, HarvestAsJsonIsOneMessageALine) {
  const Process::Result result = Cli({"--json", "--quiet", "states", "harvest", "--text", "abc"});
  EXPECT_EQ(result.err, "");
  const std::string& out = result.out;
  EXPECT_THAT(out, StartsWith("{\"state\":{\"documentId\":\"text\",\"position\":\"3\",\"state\":{"
                              "\"name\":\"states/s1\""));
  EXPECT_THAT(
      out,
      HasSubstr(
          "\n{\"summary\":{\"documents\":\"1\",\"states\":\"1\",\"errors\":\"0\",\"tokens\":\"3\","
          "\"seconds\":0.25}}\n"));
}

TEST_F(CliTest, ARefusedDocumentIsNamedAndExitsWith1) {
  const std::string a = WriteFile("a", "aaa"), b = WriteFile("b", "bbb");
  server_.RefuseDocument(a);
  const Process::Result result = Cli({"states", "harvest", a, b});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr(b));
  EXPECT_EQ(result.err, absl::StrCat("dreamstate: ", a,
                                     ": holds the end token\n"
                                     "1 state of 2 documents, 3 tokens in 0.25 s\n"
                                     "dreamstate: 1 of 2 documents could not be read\n"));
}

TEST_F(CliTest, FilesThatCannotBeReadAreSaidInOneLineBeforeAnythingIsSent) {
  const std::string good = WriteFile("good", "x"), empty = WriteFile("empty", "");
  const std::string large = WriteFile("large", "x");
  std::filesystem::resize_file(large, 17 << 20);
  const std::string missing = (directory_ / "missing").string();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {missing, missing + ": No such file or directory"},
      {directory_.string(), directory_.string() + ": is a directory; name the files in it"},
      {empty, empty + ": is empty"},
      {large, large + ": larger than 15.9 MiB, the most that one message takes; split it"},
      {good, good + ": named twice"}};
  for (const auto& [path, message] : cases) {
    const Process::Result harvest = Cli({"states", "harvest", good, path});
    EXPECT_EQ(harvest.exit_code, 2);
    EXPECT_EQ(harvest.err, absl::StrCat("dreamstate: ", message, "\n"));
    if (path == good) continue;
    const Process::Result decode = Cli({"decode", "--file", path});
    EXPECT_EQ(decode.exit_code, 2);
    EXPECT_EQ(decode.err, absl::StrCat("dreamstate: ", message, "\n"));
  }
  EXPECT_EQ(Cli({"decode", "-"}, "").err, "dreamstate: standard input: is empty\n");
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(CliTest, StatesAreListedShownLabelledAndDeleted) {
  ASSERT_EQ(Cli({"states", "harvest", "--text", "abc", "--label", "draft"}).exit_code, 0);
  const Process::Result list =
      Cli({"states", "list", "--label", "draft", "--parent", "p", "--model", "alpha"});
  EXPECT_THAT(list.out, HasSubstr("\nstates/s1  20"));
  EXPECT_THAT(list.out, HasSubstr("  alpha  harvest  draft\n"));
  EXPECT_EQ(server_.lists().at(0).parent(), "states/p");
  EXPECT_EQ(server_.lists().at(0).model(), "models/alpha");

  const Process::Result label =
      Cli({"states", "label", "s1", "final", "--remove", "draft", "--ttl", "7d"});
  EXPECT_EQ(label.exit_code, 0) << label.err;
  EXPECT_EQ(label.out, "states/s1  labels: final; expires: never\n");
  EXPECT_THAT(server_.updates().at(0).update_mask().paths(), ElementsAre("labels", "time_to_live"));
  EXPECT_EQ(server_.updates().at(0).annotations().time_to_live().seconds(), 7 * 86400);
  EXPECT_EQ(server_.updates().at(0).etag(), "e1") << "so that nobody's change in between is lost";

  EXPECT_THAT(Cli({"states", "show", "states/s1"}).out, HasSubstr("  labels       final\n"));
  EXPECT_EQ(Cli({"states", "delete", "s1"}).out, "states/s1  deleted\n");
  const Process::Result again = Cli({"states", "delete", "s1"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_EQ(again.err, "dreamstate: not found: no such state; states/s1\n");
}

TEST_F(CliTest, DeletingSeveralGoesOnAfterAFailure) {
  ASSERT_EQ(Cli({"states", "harvest", "--text", "abc"}).exit_code, 0);
  const Process::Result result = Cli({"states", "delete", "nope", "s1", "--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "{\"name\":\"states/s1\",\"deleted\":true}\n");
  EXPECT_TRUE(server_.states().empty());
}

TEST_F(CliTest, WhatIsProbablyAMistakeIsToldOrRefused) {
  const Process::Result unknown = Cli({"bogus"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("no such command: bogus"));
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"bogus", "--help"}, {"states", "bogus", "--help"}}) {
    const Process::Result help = Cli(words);
    EXPECT_EQ(help.exit_code, 2);
    EXPECT_THAT(help.err, HasSubstr("no such command: bogus"));
  }
  EXPECT_EQ(Cli({"states", "--help"}).exit_code, 0);
  EXPECT_EQ(Cli({"chat"}, "/bogus\n").err,
            "dreamstate: no such chat command: /bogus; /help lists them\n");
  const Process::Result seed = Cli({"decode", "text", "--seed", "-1"});
  EXPECT_EQ(seed.exit_code, 2);
  EXPECT_THAT(seed.err, HasSubstr("--seed"));
  EXPECT_EQ(Cli({"states", "list", "--limit", "0"}).exit_code, 2);
  const std::string file = "/proc/self/limits";
  EXPECT_THAT(Cli({"score", file}).err, HasSubstr("--file /proc/self/limits reads the file"));
}

TEST_F(CliTest, AListIsWalkedOnlyAsFarAsTheLimit) {
  for (const char* name : {"states/a", "states/b", "states/c"}) {
    v1::State state;
    state.set_name(name);
    server_.AddState(state);
  }
  const Process::Result result = Cli({"states", "list", "--limit", "2", "--json"});
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  EXPECT_EQ(result.err, "more than 2; raise --limit to see them\n");
}

TEST_F(CliTest, SomebodyElsesChangeInBetweenIsTriedAgain) {
  ASSERT_EQ(Cli({"states", "harvest", "--text", "abc"}).exit_code, 0);
  const int before = server_.calls();
  server_.FailNext(grpc::Status::OK);
  server_.FailNext(grpc::Status(grpc::StatusCode::ABORTED, "the etag moved"));
  EXPECT_EQ(Cli({"states", "label", "s1", "x"}).exit_code, 0);
  EXPECT_EQ(server_.calls() - before, 4) << "get, update, get, update";
}

// ---- decode

TEST_F(CliTest, OneBranchIsItsTextAlone) {
  const Process::Result result = Cli({"decode", "Once"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "one two three\033[2J\n") << "bytes into a pipe are not touched";
  EXPECT_EQ(result.err,
            "models/alpha/versions/3, seed 42; read 4 tokens in 0.500 s\n"
            "3 tokens in 0.250 s, as many as asked for\n");
}

TEST_F(CliTest, BranchesComeOneAfterTheOther) {
  const Process::Result result =
      Cli({"decode", "Once", "--branches", "2", "--save", "--label", "l", "--ttl", "2h"});
  EXPECT_EQ(result.out,
            "--- branch 0 ---\nb0 one two three\033[2J\n\n"
            "--- branch 1 ---\nb1 one two three\033[2J\n");
  EXPECT_THAT(result.err,
              HasSubstr("branch 0: 3 tokens in 0.250 s, as many as asked for; saved states/s2\n"
                        "branch 1: 3 tokens in 0.250 s, as many as asked for; saved states/s1\n"));
  EXPECT_THAT(server_.states().at("states/s1").labels(), ElementsAre("l"));
}

TEST_F(CliTest, EverySamplingFlagReachesTheServer) {
  const Process::Result result = Cli({"decode",
                                      "--from",
                                      "s9",
                                      "-n",
                                      "1",
                                      "--max-tokens",
                                      "12",
                                      "--temperature",
                                      "0.5",
                                      "--top-k",
                                      "3",
                                      "--top-p",
                                      "0.9",
                                      "--min-p",
                                      "0.1",
                                      "--presence",
                                      "-0.5",
                                      "--frequency",
                                      "0.25",
                                      "--penalty-decay",
                                      "0.9",
                                      "--seed",
                                      "18446744073709551615",
                                      "--stop",
                                      "\n",
                                      "--stop",
                                      "END",
                                      "--bias",
                                      "10=-5",
                                      "--bias",
                                      "11=2.5",
                                      "--log-probs",
                                      "4",
                                      "--model",
                                      "alpha",
                                      "--",
                                      "-dash"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const v1::DecodeRequest request = server_.decodes().at(0);
  const v1::Sampling& s = request.sampling();
  EXPECT_EQ(request.prompt().text(), "-dash");
  EXPECT_EQ(request.model(), "models/alpha");
  EXPECT_EQ(request.source().state(), "states/s9");
  EXPECT_EQ(request.max_tokens(), 12);
  EXPECT_EQ(request.top_log_probs(), 4);
  EXPECT_THAT(request.stop(), ElementsAre("\n", "END"));
  EXPECT_FLOAT_EQ(s.temperature(), 0.5f);
  EXPECT_EQ(s.top_k(), 3);
  EXPECT_FLOAT_EQ(s.top_p(), 0.9f);
  EXPECT_FLOAT_EQ(s.min_p(), 0.1f);
  EXPECT_FLOAT_EQ(s.presence_penalty(), -0.5f);
  EXPECT_FLOAT_EQ(s.frequency_penalty(), 0.25f);
  EXPECT_FLOAT_EQ(s.penalty_decay(), 0.9f);
  EXPECT_EQ(s.seed(), 18446744073709551615u);
  ASSERT_EQ(s.logit_bias_size(), 2);
  EXPECT_EQ(s.logit_bias(0).token_id(), 10);
  EXPECT_FLOAT_EQ(s.logit_bias(0).bias(), -5);
  EXPECT_THAT(result.out, HasSubstr("  token      7  ln p   -0.5000\n"));
}

TEST_F(CliTest, WhatIsNotGivenIsNotSent) {
  ASSERT_EQ(Cli({"decode"}).exit_code, 0);
  const v1::DecodeRequest request = server_.decodes().at(0);
  EXPECT_FALSE(request.sampling().has_temperature());
  EXPECT_FALSE(request.sampling().has_top_p());
  EXPECT_FALSE(request.sampling().has_seed());
  EXPECT_FALSE(request.sampling().has_penalty_decay());
  EXPECT_FALSE(request.has_top_log_probs());
  EXPECT_FALSE(request.has_save_state());
  EXPECT_FALSE(request.has_prompt());
  EXPECT_FALSE(request.has_source());
}

TEST_F(CliTest, DecodeAsJsonIsTheStreamLineByLine) {
  const Process::Result result = Cli({"decode", "x", "--json"});
  EXPECT_EQ(result.out,
            "{\"start\":{\"modelVersion\":\"models/alpha/versions/"
            "3\",\"seed\":\"42\",\"reusedTokens\":\"0\","
            "\"promptTokens\":\"1\",\"prefillSeconds\":0.5,\"queueSeconds\":0,"
            "\"prefixTokens\":\"0\"}}\n"
            "{\"piece\":{\"branch\":0,\"piece\":{\"text\":\"one\",\"raw\":\"b25l\",\"tokenIds\":[7]"
            ",\"logProbs\":[]}}}\n"
            "{\"piece\":{\"branch\":0,\"piece\":{\"text\":\" "
            "two\",\"raw\":\"IHR3bw==\",\"tokenIds\":[7],\"logProbs\":[]}}}\n"
            "{\"piece\":{\"branch\":0,\"piece\":{\"text\":\" "
            "three\\u001b[2J\",\"raw\":\"IHRocmVlG1sySg==\","
            "\"tokenIds\":[7],\"logProbs\":[]}}}\n"
            "{\"finish\":{\"branch\":0,\"reason\":\"MAX_TOKENS\",\"stopIndex\":0,"
            "\"generatedTokens\":\"3\","
            "\"decodeSeconds\":0.25}}\n");
}

TEST_F(CliTest, CtrlCEndsTheCallAndExitsWith130) {
  server_.HangAfter(2);
  Process process({"--server", server_.address(), "decode", "x"});
  ASSERT_TRUE(server_.WaitForCalls(1));
  process.Interrupt();
  const Process::Result result = process.Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  EXPECT_TRUE(server_.WaitForCancelled(1)) << "the server should hear of it";
}

TEST_F(CliTest, CtrlCEndsAHarvestToo) {
  server_.HangAfter(0);
  Process process({"--server", server_.address(), "states", "harvest", "--text", "x"});
  ASSERT_TRUE(server_.WaitForCalls(1));
  process.Interrupt();
  EXPECT_EQ(process.Wait().exit_code, 130);
  EXPECT_TRUE(server_.WaitForCancelled(1));
}

// ---- score

TEST_F(CliTest, ScoresFromSeveralSourcesAreCompared) {
  const std::string file = WriteFile("text", "abcdefgh");
  const Process::Result result =
      Cli({"score", "--file", file, "--from", "s1", "--from", "empty", "--context", "before"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "SOURCE        NATS  BITS PER BYTE  BYTES  TOKENS\n"
            "states/s1   8.0000         2.0000      8       8\n"
            "empty      16.0000         4.0000      8       8\n"
            "lowest (best): states/s1, 2.0000 bits per byte below empty\n");
  EXPECT_EQ(server_.scores().at(0).context().text(), "before");
}

TEST_F(CliTest, ScoreAsJsonAndPerToken) {
  EXPECT_EQ(Cli({"score", "-", "--per-token", "--json"}, "ab").out,
            "{\"source\":\"empty\",\"modelVersion\":\"models/alpha/versions/3\",\"totalNats\":4,"
            "\"bitsPerByte\":4,\"targetTokens\":\"2\",\"targetBytes\":\"2\",\"tokenNats\":[2,2],"
            "\"tokenBytes\":[\"YQ==\",\"Yg==\"]}\n");
  EXPECT_THAT(Cli({"score", "ab", "--per-token"}).out,
              HasSubstr("\nPOSITION  TOKEN  empty NATS\n       0  \"a\"        2.0000\n"
                        "       1  \"b\"        2.0000\n"));
}

// ---- chat

TEST_F(CliTest, ChatContinuesFromTheSavedStateOfTheLastAnswer) {
  const Process::Result result =
      Cli({"chat", "--ttl", "5m"}, "hello\nhow are you\n/save kept\n/quit\nnever read\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto decodes = server_.decodes();
  ASSERT_EQ(decodes.size(), 2u);
  EXPECT_EQ(decodes[0].prompt().text(), "User: hello\n\nAssistant:");
  EXPECT_FALSE(decodes[0].has_source());
  EXPECT_EQ(decodes[0].save_state().annotations().time_to_live().seconds(), 300);
  EXPECT_THAT(decodes[0].stop(), ElementsAre("\n\nUser:"));
  EXPECT_EQ(decodes[1].source().state(), "states/s1");
  EXPECT_EQ(decodes[1].prompt().text(), "\n\nUser: how are you\n\nAssistant:");
  EXPECT_EQ(server_.updates().at(0).name(), "states/s2");
  EXPECT_EQ(server_.updates().at(0).annotations().time_to_live().seconds(), 0);
  EXPECT_THAT(server_.states().at("states/s2").labels(), ElementsAre("kept"));
  EXPECT_FALSE(server_.states().at("states/s2").has_expires());
}

TEST_F(CliTest, ChatBranchesAndUndoesFromTheSamePoint) {
  const Process::Result result = Cli({"chat"}, "hello\n/branch 2\n1\nmore\n/undo\nother\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto decodes = server_.decodes();
  ASSERT_EQ(decodes.size(), 4u);
  EXPECT_EQ(decodes[1].branches(), 2);
  EXPECT_EQ(decodes[1].prompt().text(), decodes[0].prompt().text());
  EXPECT_FALSE(decodes[1].has_source()) << "answers the same message from the same point";
  // The fake server finishes branch 1 first: states/s2.
  EXPECT_EQ(decodes[2].source().state(), "states/s2");
  EXPECT_EQ(decodes[3].source().state(), "states/s2");
}

TEST_F(CliTest, ChatUsesTheTemplateGiven) {
  ASSERT_EQ(Cli({"chat", "--template", "Q: {user}\\nA:", "--stop", "\\nQ:", "--from", "s7"}, "why")
                .exit_code,
            0);
  EXPECT_EQ(server_.decodes().at(0).prompt().text(), "\n\nQ: why\nA:");
  EXPECT_EQ(server_.decodes().at(0).source().state(), "states/s7");
  EXPECT_THAT(server_.decodes().at(0).stop(), ElementsAre("\nQ:"));
}

TEST_F(CliTest, ChatSpeaksAsTheModelWasTaught) {
  server_.SetChatTemplate("<|user|>\n{user}\n<|model|>\n");
  ASSERT_EQ(Cli({"chat"}, "why\n").exit_code, 0);
  EXPECT_EQ(server_.decodes().at(0).prompt().text(), "<|user|>\nwhy\n<|model|>\n");
  EXPECT_THAT(server_.decodes().at(0).stop(), ElementsAre("\n\n<|user|>"));
  ASSERT_EQ(Cli({"chat", "--model", "alpha", "--stop", "END"}, "why\n").exit_code, 0);
  EXPECT_EQ(server_.decodes().at(1).prompt().text(), "<|user|>\nwhy\n<|model|>\n");
  EXPECT_THAT(server_.decodes().at(1).stop(), ElementsAre("END"));
  EXPECT_EQ(Cli({"chat", "--model", "gamma"}, "why\n").exit_code, 1);
}

TEST_F(CliTest, ChatInAScriptEndsAtTheFirstFailure) {
  EXPECT_EQ(Cli({"chat"}, "/undo\nhello\n").exit_code, 1);
  EXPECT_EQ(server_.decodes().size(), 0u);
}

TEST_F(CliTest, CtrlCAtThePromptEndsAChat) {
  Process process({"--server", server_.address(), "chat"}, "hello\n", {}, /*keep_input_open=*/true);
  ASSERT_TRUE(server_.WaitForCalls(1));
  process.Interrupt();
  EXPECT_EQ(process.Wait().exit_code, 130);
}

// ---- on a terminal

TEST_F(CliTest, AModelCannotSteerTheTerminal) {
  const Process::Result result =
      RunOnTerminal({"--server", server_.address(), "decode", "x", "--branches", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("b0 one two three\uFFFD[2J\r\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("\033[2J")));
  EXPECT_THAT(result.out, HasSubstr("\033[1m--- branch 1 ---\033[0m"));
}

TEST_F(CliTest, AHarvestShowsItsProgressAndClearsItAway) {
  const std::string file = WriteFile("a", "hello");
  const Process::Result result =
      RunOnTerminal({"--server", server_.address(), "states", "harvest", file});
  EXPECT_THAT(result.out, HasSubstr("\r\033[K[########################] 1/1 documents, 5 tokens"));
  EXPECT_THAT(result.out, HasSubstr("\r\033[K1 state of 1 document,"));
  EXPECT_THAT(RunOnTerminal({"--server", server_.address(), "-q", "states", "harvest", file}).out,
              Not(HasSubstr("[##")));
}

TEST_F(CliTest, AFailedTurnDoesNotEndATalkAtATerminal) {
  const Process::Result result = RunOnTerminal({"--server", server_.address(), "chat"},
                                               "/undo\nhello\n/branch 2\n7\n1\n/quit\n");
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_THAT(result.out, HasSubstr("there is nothing to undo"));
  EXPECT_THAT(result.out, HasSubstr("expected a number from 0 to 1"));
  EXPECT_EQ(server_.decodes().size(), 2u);
}

}  // namespace
}  // namespace dreamstate::client
