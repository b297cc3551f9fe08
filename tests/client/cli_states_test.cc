// What the program does with states that lie elsewhere, came from somewhere, or must go.
#include <string>

#include "client/sha256.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/cli_fixture.h"

namespace dreamstate::client {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class CliStatesTest : public CliTest {
 protected:
  CliStatesTest() { AddState("states/x", 2, 3); }

  void ServeFile(const std::string& bytes, const std::string& name = "x.safetensors") {
    Sha256 digest;
    digest.Update(bytes);
    server_.SetFile(bytes, digest.HexDigest(), name);
  }
};

// ---- download

TEST_F(CliStatesTest, ADownloadIsAWholeFileOrNone) {
  const std::string bytes((1 << 20) + 5, 'b');
  ServeFile(bytes);
  const Process::Result result =
      Cli({"states", "download", "x", "-o", PathOf("a"), "--layout", "rwkv", "--dtype", "bf16"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith(PathOf("a") + "  1.0 MiB, sha-256 "));
  EXPECT_TRUE(ReadFile("a") == bytes);
  EXPECT_THAT(Listing(), ElementsAre("a"));
  EXPECT_EQ(server_.downloads().at(0).layout(), v1::RWKV_PACKAGE);
  EXPECT_EQ(server_.downloads().at(0).dtype(), v1::BFLOAT16);

  server_.SetFile(bytes, "0000", "x");
  const Process::Result damaged = Cli({"states", "download", "x", "-o", PathOf("b")});
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("data lost: states/x: expected SHA-256 0000, found "));
  EXPECT_THAT(Listing(), ElementsAre("a"));
}

TEST_F(CliStatesTest, AFileThatIsThereIsReplacedOnlyByForce) {
  ServeFile("new");
  WriteFile("a", "old");
  const int before = server_.calls();
  const Process::Result refused = Cli({"states", "download", "x", "-o", PathOf("a")});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.err, "dreamstate: " + PathOf("a") + ": exists already; --force replaces it\n");
  EXPECT_EQ(server_.calls(), before) << "known before anything is asked";
  EXPECT_EQ(ReadFile("a"), "old");
  EXPECT_EQ(Cli({"states", "download", "x", "-o", PathOf("a"), "--force"}).exit_code, 0);
  EXPECT_EQ(ReadFile("a"), "new");
  EXPECT_EQ(Cli({"states", "download", "x", "-o", PathOf("no/such/folder")}).exit_code, 2);
}

TEST_F(CliStatesTest, ADownloadGoesToAPipeToo) {
  const std::string bytes("\0\1\2\xff state", 10);
  ServeFile(bytes);
  const Process::Result result = Cli({"states", "download", "x", "-o", "-"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, bytes);
  EXPECT_THAT(result.err, StartsWith("states/x  10 B, sha-256 "));
  const Process::Result terminal =
      RunOnTerminal({"--server", server_.address(), "states", "download", "x", "-o", "-"});
  EXPECT_EQ(terminal.exit_code, 2);
}

TEST_F(CliStatesTest, AServerCannotChooseWhereAFileGoes) {
  ServeFile("bytes", "../../escaped");
  // Run in the folder itself, where a file without --output goes.
  const std::string command = "cd " + directory_.string() + " && " + DREAMSTATE_CLI + " --server " +
                              server_.address() + " states download x > /dev/null";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(Listing(), ElementsAre("state.download"));
}

TEST_F(CliStatesTest, CtrlCLeavesNoHalfFile) {
  ServeFile(std::string(3 << 20, 'b'));
  server_.HangAfter(2);
  Process process({"--server", server_.address(), "states", "download", "x", "-o", PathOf("a")});
  ASSERT_TRUE(server_.WaitForCalls(1));
  process.Interrupt();
  EXPECT_EQ(process.Wait().exit_code, 130);
  EXPECT_TRUE(Listing().empty());
}

TEST_F(CliStatesTest, ADownloadAsJsonNamesFileAndState) {
  ServeFile("abc");
  const Process::Result result = Cli({"--json", "states", "download", "x", "-o", PathOf("a")});
  EXPECT_THAT(result.out,
              StartsWith("{\"file\":\"" + PathOf("a") + "\",\"state\":{\"name\":\"states/x\""));
  EXPECT_THAT(result.out, HasSubstr("\"bytes\":\"3\""));
}

// ---- upload

TEST_F(CliStatesTest, AnUploadSaysWhatTheFileIs) {
  const std::string bytes((2 << 20) + 1, 'u');
  const std::string file = WriteFile("state.bin", bytes);
  const Process::Result result =
      Cli({"states", "upload", file, "--layout", "canonical", "--dtype", "fp16", "--tokens", "9",
           "--transposed", "--label", "mine", "--ttl", "1h", "--model", "alpha"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("states/s1  "));
  EXPECT_THAT(result.out, EndsWith(", 9 tokens\n"));
  const FakeServer::Upload upload = server_.uploads().at(0);
  EXPECT_TRUE(upload.bytes == bytes);
  EXPECT_EQ(upload.options.layout(), v1::CANONICAL);
  EXPECT_EQ(upload.options.dtype(), v1::FLOAT16);
  EXPECT_EQ(upload.options.model(), "models/alpha");
  EXPECT_TRUE(upload.options.transposed());
  EXPECT_THAT(upload.options.annotations().labels(), ElementsAre("mine"));
  EXPECT_EQ(upload.options.annotations().time_to_live().seconds(), 3600);
}

TEST_F(CliStatesTest, AnUploadReadsAPipe) {
  const Process::Result result = Cli({"states", "upload", "-"}, "from a pipe");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(server_.uploads().at(0).bytes, "from a pipe");
  EXPECT_EQ(server_.uploads().at(0).options.layout(), v1::STATE_LAYOUT_UNSPECIFIED);
  EXPECT_EQ(Cli({"states", "upload", "-"}, "").err, "dreamstate: standard input: is empty\n");
}

TEST_F(CliStatesTest, AnUploadShowsItsProgress) {
  const std::string file = WriteFile("state.bin", std::string(4 << 20, 'u'));
  const Process::Result result =
      RunOnTerminal({"--server", server_.address(), "states", "upload", file});
  EXPECT_THAT(result.out, HasSubstr("[############............] 2.0 MiB of 4.0 MiB"));
}

TEST_F(CliStatesTest, ARefusedFileIsNamedByItsNameAndFlagsByTheirs) {
  const std::string file = WriteFile("state.bin", "bytes");
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("chunk");
  server_.FailNext(ErrorWith(grpc::StatusCode::INVALID_ARGUMENT,
                             "chunk: the file: expected 8 bytes, found 5", bad));
  EXPECT_EQ(Cli({"states", "upload", file}).err,
            "dreamstate: invalid argument: " + file + ": expected 8 bytes, found 5\n");
  bad.mutable_field_violations(0)->set_field("dtype");
  server_.FailNext(ErrorWith(grpc::StatusCode::INVALID_ARGUMENT,
                             "dtype: expected FLOAT32 or none for layout DREAMSTATE", bad));
  EXPECT_EQ(Cli({"states", "download", "x", "--dtype", "bf16", "-o", PathOf("a")}).err,
            "dreamstate: invalid argument: --dtype: expected fp32 or none for layout dreamstate\n");
}

TEST_F(CliStatesTest, AnUploadSaysWhatItsFileDoesNot) {
  const Process::Result result = Cli({"states", "upload", "-"}, "bytes");
  EXPECT_THAT(result.out, EndsWith(", tokens unknown (--tokens says)\n"));
  const std::string shown = Cli({"states", "show", "s1"}).out;
  EXPECT_THAT(shown, HasSubstr("  numerics     unknown\n"));
  EXPECT_THAT(shown, HasSubstr("  from         a file\n"));
}

// ---- show and compare

TEST_F(CliStatesTest, ArgumentsComeInOneOrderAndEmptyTokensNotAtAll) {
  v1::State state;
  state.set_name("states/args");
  auto& fields = *state.mutable_lineage()->mutable_arguments()->mutable_fields();
  for (const char* key : {"seed", "branch", "position", "document", "aa", "zz", "model"})
    fields[key].set_number_value(1);
  server_.AddState(state);
  const std::string sorted =
      R"({"aa":1,"branch":1,"document":1,"model":1,"position":1,"seed":1,"zz":1})";
  EXPECT_THAT(Cli({"states", "show", "args", "--map", "none"}).out,
              HasSubstr("  arguments    " + sorted + "\n"));
  const std::string json = Cli({"states", "show", "args", "--json"}).out;
  EXPECT_THAT(json, HasSubstr("\"arguments\":" + sorted));
  EXPECT_THAT(json, Not(HasSubstr("keptTokens")));
}

TEST_F(CliStatesTest, ShowDrawsTheNumbersOfEveryHead) {
  const Process::Result result = Cli({"states", "show", "x"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("  shift rms    time mix 0.25 to 1.25, channel mix 0.5 to 1.5\n"
                                    "\n"
                                    "RMS of every matrix: layers down, heads across\n"
                                    "          0     1     2\n"
                                    "   0      0 0.010 0.020\n"
                                    "   1  1.000 1.010 1.020\n"));
  EXPECT_THAT(Cli({"states", "show", "x", "--map", "rank"}).out,
              HasSubstr("Stable rank of every matrix"));
  EXPECT_THAT(Cli({"states", "show", "x", "--map", "none"}).out, Not(HasSubstr("matrix")));
}

TEST_F(CliStatesTest, ShowMakesDoWithAnOlderServer) {
  const grpc::Status unimplemented(grpc::StatusCode::UNIMPLEMENTED, "");
  server_.FailNext(grpc::Status::OK);
  server_.FailNext(unimplemented);
  const Process::Result result = Cli({"states", "show", "x"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("states/x\n"));
  server_.FailNext(grpc::Status::OK);
  server_.FailNext(unimplemented);
  EXPECT_EQ(Cli({"states", "show", "x", "--map", "rms"}).exit_code, 1) << "it was asked for";
}

TEST_F(CliStatesTest, ShowAsJsonHasTheNumbersOnRequest) {
  EXPECT_THAT(Cli({"states", "show", "x", "--json"}).out, StartsWith("{\"name\":\"states/x\""));
  const std::string described = Cli({"states", "show", "x", "--json", "--map", "rms"}).out;
  EXPECT_THAT(described, StartsWith("{\"state\":{\"name\":\"states/x\""));
  EXPECT_THAT(described, HasSubstr("\"heads\":[{\"rms\":0,\"spectralNorm\":0,\"stableRank\":1},"));
}

TEST_F(CliStatesTest, ShowDrawsAPicture) {
  const Process::Result result =
      Cli({"states", "show", "x", "--map", "norm", "--png", PathOf("map.png")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, StartsWith("wrote " + PathOf("map.png") + ", "));
  EXPECT_THAT(ReadFile("map.png"), StartsWith("\x89PNG\r\n"));
  EXPECT_EQ(Cli({"states", "show", "x", "--png", PathOf("map.png")}).exit_code, 2);
  const Process::Result nowhere = Cli({"states", "show", "x", "--png", PathOf("nope/map.png")});
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_EQ(nowhere.out, "") << "known before anything is printed";
  EXPECT_EQ(Cli({"states", "show", "x", "--png", PathOf("map.png"), "--force"}).exit_code, 0);
}

TEST_F(CliStatesTest, ColoursAreForTerminalsThatHaveThem) {
  const std::vector<std::string> show = {"--server", server_.address(), "states", "show", "x"};
  EXPECT_THAT(RunOnTerminal(show, "", {{"TERM", "xterm-256color"}}).out, HasSubstr("\033[48;5;"));
  EXPECT_THAT(RunOnTerminal(show, "", {{"TERM", "xterm-256color"}, {"COLORTERM", "truecolor"}}).out,
              HasSubstr("\033[48;2;68;1;84m"));
  for (const std::map<std::string, std::string>& environment :
       std::vector<std::map<std::string, std::string>>{
           {}, {{"TERM", "dumb"}}, {{"TERM", "xterm-256color"}, {"NO_COLOR", "1"}}}) {
    const std::string out = RunOnTerminal(show, "", environment).out;
    EXPECT_THAT(out, Not(HasSubstr("\033[48")));
    EXPECT_THAT(out, HasSubstr("   1  1.000 1.010 1.020"));
  }
}

TEST_F(CliStatesTest, TwoStatesAreCompared) {
  AddState("states/y", 2, 3);
  const Process::Result result =
      Cli({"states", "compare", "x", "states/y", "--png", PathOf("map.png")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              StartsWith("PART                              COSINE          DISTANCE\n"
                         "all matrices together             0.5000            0.5000\n"
                         "each matrix             0.8800 to 1.0000  0.0000 to 0.1200\n"));
  EXPECT_THAT(result.out, HasSubstr("Distance of every matrix: layers down, heads across\n"));
  EXPECT_THAT(ReadFile("map.png"), StartsWith("\x89PNG"));
  EXPECT_THAT(Cli({"states", "compare", "x", "x"}).out, HasSubstr("the same to the bit\n"));
  EXPECT_THAT(Cli({"states", "compare", "x", "y", "--json"}).out,
              StartsWith("{\"total\":{\"cosine\":0.5,\"relativeDistance\":0.5}"));
  EXPECT_EQ(Cli({"states", "compare", "x", "z"}).exit_code, 1);
}

// ---- map

// The plot's lines of a result, without the frame.
std::vector<std::string> PlotOf(const std::string& out) {
  std::vector<std::string> rows;
  for (size_t at = 0; at < out.size();) {
    const size_t end = out.find('\n', at);
    if (out[at] == '|') rows.push_back(out.substr(at + 1, end - at - 2));
    at = end + 1;
  }
  return rows;
}

class CliMapTest : public CliTest {
 protected:
  CliMapTest() {
    for (const char* id : {"a", "b", "c", "d"}) {
      v1::State state;
      state.set_name(absl::StrCat("states/", id));
      state.set_model("models/tiny");
      state.set_token_count(7);
      state.add_labels("all");
      state.add_labels(*id < 'c' ? "code" : "prose");
      state.mutable_lineage()->set_operation("harvest");
      (*state.mutable_lineage()->mutable_arguments()->mutable_fields())["document"]
          .set_string_value(absl::StrCat(id, " & <co>.txt"));
      server_.AddState(state);
    }
  }
};

TEST_F(CliMapTest, StatesThatFitAFilterAreDrawn) {
  const Process::Result result =
      Cli({"states", "map", "--label", "all", "--model", "tiny", "--layers", "0,2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("Map of 4 states: principal components, layers 0, 2\n"
                                     "to the right direction 1: 75.0 % of the variance\n"
                                     "upwards      direction 2: 12.5 % of the variance\n+---"));
  EXPECT_THAT(result.out, EndsWith("---+\na code 2   b prose 2\n"));
  // From the upper left to the lower right.
  std::string letters;
  size_t last = 0;
  for (const std::string& row : PlotOf(result.out)) {
    EXPECT_EQ(row.size(), 78u);
    const size_t at = row.find_first_not_of(' ');
    if (at == std::string::npos) continue;
    EXPECT_GT(at, last);
    last = at;
    letters += row[at];
  }
  EXPECT_EQ(letters, "aabb");
  EXPECT_EQ(server_.lists().at(0).model(), "models/tiny");
  EXPECT_THAT(server_.lists().at(0).labels(), ElementsAre("all"));
  const v1::ProjectStatesRequest request = server_.projections().at(0);
  EXPECT_THAT(request.names(), ElementsAre("states/a", "states/b", "states/c", "states/d"));
  EXPECT_THAT(request.layers(), ElementsAre(0, 2));
  EXPECT_EQ(request.method(), v1::ProjectStatesRequest::PCA);
}

TEST_F(CliMapTest, NamedStatesAreDrawnInPicturesToo) {
  const Process::Result result =
      Cli({"states", "map", "d", "states/a", "b", "--method", "tsne", "--perplexity", "2.5",
           "--seed", "7", "--png", PathOf("map.png"), "--html", PathOf("map.html")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("Map of 3 states: t-SNE: neighbours stay together\n+-"));
  EXPECT_THAT(result.out, EndsWith("\na all 3\n")) << "no label was asked for";
  EXPECT_THAT(result.err, HasSubstr("wrote " + PathOf("map.png") + ", 960 x 720 pixels\n"));
  EXPECT_THAT(ReadFile("map.png"), StartsWith("\x89PNG\r\n"));
  EXPECT_THAT(ReadFile("map.html"), HasSubstr("<title>states/d\nall, prose\nharvest, 7 tokens"));
  EXPECT_THAT(ReadFile("map.html"), HasSubstr("\nd &amp; &lt;co&gt;.txt</title>"));
  const v1::ProjectStatesRequest request = server_.projections().at(0);
  EXPECT_THAT(request.names(), ElementsAre("states/d", "states/a", "states/b"));
  EXPECT_EQ(request.method(), v1::ProjectStatesRequest::T_SNE);
  EXPECT_EQ(request.perplexity(), 2.5f);
  EXPECT_EQ(request.seed(), 7u);
  EXPECT_TRUE(server_.lists().empty());
}

TEST_F(CliMapTest, TheNewestAreDrawnWhenThereAreMore) {
  const Process::Result result = Cli({"states", "map", "--limit", "3", "--color-by", "model"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "the newest 3 of more; raise --limit to see others\n");
  EXPECT_THAT(result.out, EndsWith("\na tiny 3\n"));
  EXPECT_EQ(server_.projections().at(0).names_size(), 3);
}

TEST_F(CliMapTest, AsJsonItIsTheServersAnswer) {
  const Process::Result result = Cli({"states", "map", "--json"});
  EXPECT_THAT(result.out, StartsWith("{\"points\":[{\"state\":{\"name\":\"states/a\""));
  EXPECT_THAT(result.out, HasSubstr("\"x\":3,\"y\":-3}"));
  EXPECT_THAT(result.out, EndsWith("\"explainedVariance\":[0.75,0.125]}\n"));
}

TEST_F(CliMapTest, WhatCannotBeIsRefusedBeforeAnythingIsAsked) {
  WriteFile("old", "old");
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--seed", "1"},
                                             {"--perplexity", "5"},
                                             {"--method", "umap"},
                                             {"a", "b", "c", "--label", "all"},
                                             {"--limit", "2"},
                                             {"--layers", "x"},
                                             {"--png", PathOf("old")},
                                             {"--html", PathOf("old")},
                                             {"--html", PathOf("nowhere/map.html")},
                                             {"--html", PathOf("map"), "--png", PathOf("map")}}) {
    std::vector<std::string> arguments = {"states", "map"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    EXPECT_EQ(Cli(arguments).exit_code, 2) << flags[0];
  }
  EXPECT_EQ(server_.calls(), 0);
  EXPECT_EQ(ReadFile("old"), "old");
  EXPECT_EQ(Cli({"states", "map", "--html", PathOf("old"), "--force"}).exit_code, 0);
  EXPECT_THAT(ReadFile("old"), StartsWith("<!DOCTYPE html>"));
}

// ---- lineage

TEST_F(CliStatesTest, LineageIsATree) {
  AddState("states/y", 2, 3, {"states/x"});
  AddState("states/z", 2, 3, {"states/x"});
  const Process::Result result = Cli({"states", "lineage", "z"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "o states/x  harvest, 7 tokens, -\n"
            "├─o states/y  decode, 7 tokens, -\n"
            "└─* states/z  decode, 7 tokens, -\n");
  EXPECT_THAT(Cli({"states", "lineage", "z", "--dot"}).out,
              HasSubstr("  \"states/x\" -> \"states/z\";\n"));
  EXPECT_THAT(Cli({"states", "lineage", "z", "--json"}).out,
              StartsWith("{\"states\":[{\"name\":\"states/z\""));
}

// ---- delete by filter

class CliDeleteTest : public CliStatesTest {
 protected:
  CliDeleteTest() {
    for (const char* name : {"states/a", "states/b"}) {
      v1::State state;
      state.set_name(name);
      state.set_bytes(1024);
      state.add_labels("draft");
      server_.AddState(state);
    }
  }
};

TEST_F(CliDeleteTest, ADryRunOnlyShows) {
  const Process::Result result = Cli({"states", "delete", "--label", "draft", "--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "states/a\nstates/b\n");
  EXPECT_EQ(result.err, "2 states, 2.0 KiB would be deleted\n");
  EXPECT_THAT(Cli({"states", "delete", "--label", "draft", "--dry-run", "--json"}).out,
              HasSubstr("\"dryRun\":true}"));
  EXPECT_EQ(server_.states().size(), 3u);
  EXPECT_THAT(Cli({"states", "delete", "--label", "draft", "--yes", "--json"}).out,
              HasSubstr("\"dryRun\":false}"));
}

TEST_F(CliDeleteTest, AScriptMustSayYes) {
  const Process::Result refused = Cli({"states", "delete", "--label", "draft"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--yes deletes it"));
  EXPECT_EQ(server_.calls(), 0);
  const Process::Result result =
      Cli({"states", "delete", "--label", "draft", "--older-than", "1h", "--yes"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "2 states, 2.0 KiB deleted\n");
  EXPECT_EQ(server_.states().size(), 1u);
  const v1::DeleteStatesRequest request = server_.deletes().at(0);
  EXPECT_FALSE(request.dry_run());
  EXPECT_FALSE(request.all());
  EXPECT_GT(request.created_before().seconds(), 1700000000);
}

TEST_F(CliDeleteTest, APersonIsAsked) {
  const std::vector<std::string> command = {"--server", server_.address(), "states", "delete",
                                            "--all"};
  const Process::Result no = RunOnTerminal(command, "\n");
  EXPECT_EQ(no.exit_code, 0) << no.out;
  EXPECT_THAT(no.out, HasSubstr("Delete 3 states, 4.0 KiB? [y/N] "));
  EXPECT_THAT(no.out, HasSubstr("nothing was deleted"));
  EXPECT_EQ(server_.states().size(), 3u);
  const Process::Result yes = RunOnTerminal(command, "y\n");
  EXPECT_EQ(yes.exit_code, 0) << yes.out;
  EXPECT_THAT(yes.out, HasSubstr("3 states, 4.0 KiB deleted"));
  EXPECT_TRUE(server_.states().empty());
  EXPECT_TRUE(server_.deletes().back().all());
}

// ---- models

TEST_F(CliTest, ModelsAreReloadedPinnedAndUnpinned) {
  const Process::Result reload = Cli({"models", "reload", "alpha"});
  EXPECT_EQ(reload.exit_code, 0) << reload.err;
  EXPECT_EQ(reload.out, "models/alpha  serves models/alpha/versions/3\n");
  EXPECT_EQ(reload.err, "tried again: version 2\n");
  EXPECT_TRUE(server_.reloads().at(0).wait());
  EXPECT_EQ(Cli({"models", "reload", "alpha", "--no-wait"}).exit_code, 0);
  EXPECT_FALSE(server_.reloads().at(1).wait());

  const Process::Result pin = Cli({"models", "pin", "alpha", "2"});
  EXPECT_EQ(pin.exit_code, 0) << pin.err;
  EXPECT_EQ(pin.out,
            "models/alpha  pinned to models/alpha/versions/2; serves models/alpha/versions/3\n");
  EXPECT_THAT(pin.err, HasSubstr("dreamstate models versions alpha"));
  EXPECT_THAT(Cli({"models", "show", "alpha"}).out,
              HasSubstr("  follows      every new version; pinned to version 2\n"));
  EXPECT_THAT(Cli({"models", "versions", "alpha"}).out, HasSubstr("failed, pinned"));
  EXPECT_THAT(Cli({"models"}).out, HasSubstr("version 3, pinned"));
  EXPECT_EQ(Cli({"models", "unpin", "alpha"}).out,
            "models/alpha  not pinned; serves models/alpha/versions/3\n");
}

// ---- batches

TEST_F(CliTest, ABatchAnswersALineADecode) {
  const std::string file = WriteFile("batch",
                                     "{\"id\": \"a\", \"prompt\": \"Once\", \"maxTokens\": 5}\n\n"
                                     "{\"id\": \"bad\", \"prompt\": {\"text\": \"x\"}}\n"
                                     "{\"source\": \"s1\", \"sampling\": {\"seed\": \"7\"}}\n");
  const Process::Result result =
      Cli({"decode", "--batch", file, "--max-tokens", "9", "--top-k", "3", "--save"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(
      result.out,
      "{\"id\":\"a\",\"modelVersion\":\"models/alpha/versions/3\",\"seed\":\"42\","
      "\"promptTokens\":0,\"reusedTokens\":0,\"branches\":[{\"text\":\"one two\",\"reason\":"
      "\"MAX_TOKENS\",\"generatedTokens\":2,\"savedState\":\"states/s1\"}]}\n"
      "{\"id\":\"bad\",\"error\":{\"code\":\"INVALID_ARGUMENT\",\"message\":\"invalid argument: "
      "max_tokens: must be at least 0, found -1\"}}\n"
      "{\"id\":\"4\",\"modelVersion\":\"models/alpha/versions/3\",\"seed\":\"42\","
      "\"promptTokens\":0,\"reusedTokens\":0,\"branches\":[{\"text\":\"one two\",\"reason\":"
      "\"MAX_TOKENS\",\"generatedTokens\":2,\"savedState\":\"states/s2\"}]}\n");
  EXPECT_THAT(result.err, HasSubstr("3 decodes, 4 tokens in "));
  EXPECT_THAT(result.err, HasSubstr("dreamstate: 1 of 3 decodes failed\n"));
  const auto batch = server_.batch();
  ASSERT_EQ(batch.size(), 3u);
  EXPECT_EQ(batch[0].request().max_tokens(), 5);
  EXPECT_EQ(batch[0].request().sampling().top_k(), 3);
  EXPECT_EQ(batch[0].request().prompt().text(), "Once");
  EXPECT_EQ(batch[2].request().source().state(), "states/s1");
  EXPECT_EQ(batch[2].request().max_tokens(), 9);
  EXPECT_EQ(batch[2].request().sampling().seed(), 7u);
}

TEST_F(CliTest, ABatchAsJsonIsTheStreamLineByLine) {
  const Process::Result result =
      Cli({"--json", "-q", "decode", "--batch", "-"}, "{\"id\":\"a\",\"request\":{}}");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("{\"id\":\"a\",\"response\":{\"start\":{"));
  EXPECT_THAT(result.out, EndsWith("{\"id\":\"a\",\"done\":{}}\n"));
  EXPECT_EQ(result.err, "");
}

TEST_F(CliTest, AWrongLineOfABatchIsNamedBeforeAnythingIsSent) {
  for (const auto& [lines, message] : std::vector<std::pair<std::string, std::string>>{
           {"{}\nnot json\n", "batch:2: is not a JSON object"},
           {"[1]", "batch:1: is not a JSON object"},
           {"{\"x\": " + std::string(100000, '[') + std::string(100000, ']') + "}",
            "batch:1: is nested too deeply"},
           {"{\"prompt\": 7}", "batch:1: "},
           {"{\"maxTokenz\": 7}", "batch:1: "},
           {"{\"id\":\"a\"}\n{\"id\":\"a\"}", "batch:2: id 'a' comes twice"},
           {"\n \n", "batch: holds no request"}}) {
    const Process::Result result = Cli({"decode", "--batch", WriteFile("batch", lines)});
    EXPECT_EQ(result.exit_code, 2) << lines;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(CliTest, ABatchShowsItsProgress) {
  const std::string file = WriteFile("batch", "{}\n{}\n");
  EXPECT_THAT(RunOnTerminal({"--server", server_.address(), "decode", "--batch", file}).out,
              HasSubstr("[############............] 1/2 decodes, 2 tokens, "));
}

}  // namespace
}  // namespace dreamstate::client
