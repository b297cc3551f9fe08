#include "server/inference/options.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<CommandLine> Parse(std::vector<std::string> arguments) {
  std::vector<const char*> argv = {"dreamstate-server"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
}

const std::vector<std::string> kRequired = {"--repository", "r", "--store", "s"};

absl::StatusOr<CommandLine> ParseWithRequired(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kRequired.begin(), kRequired.end());
  return Parse(arguments);
}

TEST(Options, DefaultsAreTheContracts) {
  const auto command = ParseWithRequired({});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->action, CommandLine::Action::kServe);
  const Options& options = command->options;
  EXPECT_EQ(options.listen_address, "0.0.0.0:50051");
  EXPECT_EQ(options.admin_address, "0.0.0.0:9464");
  EXPECT_EQ(options.message_max_bytes, 16 << 20);
  EXPECT_EQ(options.prompt_max_tokens, 1 << 20);
  EXPECT_EQ(options.drain_seconds, 30);
  EXPECT_FALSE(options.reflection);
  EXPECT_FALSE(options.error_debug_details);
}

TEST(Options, FlagsOverrideTheFileAndTheFileOverridesDefaults) {
  testing::TemporaryDirectory directory;
  const std::string file = directory / "server.json";
  testing::WriteAll(file,
                    R"({"repository": "from file", "store": "s", "threads": 3, "reflection": true,
                        "drain_seconds": 1.5, "models": ["a", "b"]})");
  const auto command = Parse({"--config", file, "--threads", "5", "--models", "c,d"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->options.repository, "from file");
  EXPECT_EQ(command->options.threads, 5);
  EXPECT_EQ(command->options.drain_seconds, 1.5);
  EXPECT_TRUE(command->options.reflection);
  EXPECT_THAT(command->options.models, ElementsAre("c", "d"));
  EXPECT_EQ(command->options.queue_limit, Options().queue_limit);
}

TEST(Options, SwitchesAreSetByTheirNameOrAValue) {
  for (const char* text : {"--reflection", "--reflection=true"}) {
    const auto command = ParseWithRequired({text});
    ASSERT_TRUE(command.ok()) << command.status();
    EXPECT_TRUE(command->options.reflection) << text;
  }
  const auto command = ParseWithRequired({"--reflection=false"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_FALSE(command->options.reflection);
}

TEST(Options, PrintedConfigurationReadsBackTheSame) {
  const auto printed = ParseWithRequired(
      {"--print-config", "--threads", "7", "--weights", "bf16", "--models", "a,b", "--reflection"});
  ASSERT_TRUE(printed.ok()) << printed.status();
  EXPECT_EQ(printed->action, CommandLine::Action::kPrint);
  const auto options = ParseConfig("printed", printed->text, Options());
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(PrintConfig(*options) + "\n", printed->text);
  EXPECT_EQ(options->threads, 7);
  EXPECT_THAT(options->models, ElementsAre("a", "b"));
}

TEST(Options, HelpNamesEveryOptionAndTheExitCodes) {
  const auto help = Parse({"--help"});
  ASSERT_TRUE(help.ok()) << help.status();
  EXPECT_EQ(help->action, CommandLine::Action::kPrint);
  const nlohmann::json options = nlohmann::json::parse(PrintConfig(Options()));
  for (const auto& [key, value] : options.items()) {
    std::string flag = "--" + key;
    std::replace(flag.begin(), flag.end(), '_', '-');
    EXPECT_THAT(help->text, HasSubstr(flag));
  }
  EXPECT_THAT(help->text, HasSubstr("Exit codes"));
  EXPECT_THAT(help->text, HasSubstr("Examples"));
}

TEST(Options, VersionIsPrinted) {
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->text, "dreamstate-server " DREAMSTATE_VERSION "\n");
}

struct Refused {
  std::vector<std::string> arguments;
  std::vector<std::string> says;
};

TEST(Options, BadFlagsAreRefusedInOneLineThatSaysWhatWasExpected) {
  const std::vector<Refused> table = {
      {{"--thread", "3"}, {"--thread", "did you mean --threads?"}},
      {{"--listen_address", "x"}, {"did you mean --listen-address?"}},
      {{"--threads", "many"}, {"--threads", "[0, 1024]", "many"}},
      {{"--threads", "-1"}, {"--threads"}},
      {{"--threads", "99999999999999999999"}, {"--threads"}},
      {{"--threads"}, {"--threads"}},
      {{"--drain-seconds", "nan"}, {"--drain-seconds", "expected a number"}},
      {{"--drain-seconds", "1e9"}, {"--drain-seconds", "expected a number"}},
      {{"--reflection=maybe"}, {"--reflection", "true or false", "maybe"}},
      {{"--weights", "int3"}, {"--weights", "auto, fp32, bf16", "int3"}},
      {{"--log-level", "loud"}, {"--log-level", "debug, info"}},
      {{"--message-max-bytes", "12"}, {"--message-max-bytes"}},
      {{"--max-sequences", "512", "--step-max-tokens", "256"},
       {"--step-max-tokens", "--max-sequences"}},
      {{"--follow", "all,pinned"}, {"--follow", "pinned", "not named"}},
      {{"--follow", "m=all,m=pinned"}, {"--follow", "m=pinned", "expected one mode for m"}},
      {{"--models", "a", "--follow", "m=all"}, {"--follow", "m=all", "--models"}},
      {{"--follow", "some"}, {"--follow", "same-backbone", "some"}},
      {{"--follow", "all,m=none"}, {"--follow", "m=none", "same-backbone"}},
      {{"--follow", "No Name=all"}, {"--follow", "No Name"}},
      {{"--max-drain-seconds", "-1"}, {"--max-drain-seconds"}},
      {{"--models", "No Name"}, {"--models", "No Name"}},
      {{"--listen-address", "51210"}, {"--listen-address", "expected host:port", "51210"}},
      {{"--listen-address", ""}, {"--listen-address", "expected host:port"}},
      {{"--listen-address", ":50051"}, {"--listen-address", "expected host:port"}},
      {{"--listen-address", "localhost:"}, {"--listen-address", "expected host:port"}},
      {{"--listen-address", "localhost:http"}, {"--listen-address", "expected host:port"}},
      {{"--listen-address", "localhost:65536"}, {"--listen-address", "expected host:port"}},
      {{"--admin-address", "9464"}, {"--admin-address", "expected host:port", "9464"}},
      {{"stray"}, {"stray"}},
  };
  for (const Refused& row : table) {
    const auto command = ParseWithRequired(row.arguments);
    SCOPED_TRACE(row.arguments.front());
    ASSERT_FALSE(command.ok());
    const std::string message(command.status().message());
    for (const std::string& part : row.says) EXPECT_THAT(message, HasSubstr(part));
    EXPECT_THAT(message, Not(HasSubstr("\n")));
  }
}

TEST(Options, RepositoryAndStoreAreRequired) {
  EXPECT_THAT(Parse({"--store", "s"}).status().message(), HasSubstr("--repository"));
  EXPECT_THAT(Parse({"--repository", "r"}).status().message(), HasSubstr("--store"));
}

TEST(Options, BadConfigFilesAreRefusedNamingFileAndKey) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> table = {
      {"", {"expected a JSON object, found a syntax error"}},
      {"{", {"expected a JSON object, found a syntax error"}},
      {"[]", {"expected a JSON object"}},
      {R"({"reposittory": "x"})", {"\"reposittory\"", "did you mean \"repository\"?"}},
      {R"({"threads": "3"})", {"threads", "whole number", "\"3\""}},
      {R"({"threads": 3.5})", {"threads", "whole number"}},
      {R"({"threads": -1})", {"threads", "[0, 1024]"}},
      {R"({"threads": 18446744073709551615})", {"threads"}},
      {R"({"reflection": 1})", {"reflection", "true or false"}},
      {R"({"models": "a"})", {"models", "list of strings"}},
      {R"({"models": [1]})", {"models", "list of strings"}},
      {R"({"drain_seconds": null})", {"drain_seconds", "number"}},
      {R"({"log_format": "xml"})", {"log_format", "text, json"}},
      {R"({"store": {"path": "x"}})", {"store", "expected a string"}},
  };
  for (const auto& [json, parts] : table) {
    SCOPED_TRACE(json);
    const auto options = ParseConfig("server.json", json, Options());
    ASSERT_FALSE(options.ok());
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(options.status().message());
    EXPECT_THAT(message, HasSubstr("server.json"));
    for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
    EXPECT_THAT(message, Not(HasSubstr("\n")));
  }
}

TEST(Options, DeeplyNestedAndHugeConfigFilesDoNoHarm) {
  EXPECT_FALSE(ParseConfig("f", std::string(100'000, '['), Options()).ok());
  EXPECT_FALSE(ParseConfig("f", "{\"" + std::string(100'000, 'x') + "\": 1}", Options()).ok());
}

TEST(Options, AMissingConfigFileIsNamed) {
  const auto command = Parse({"--config", "/no/such/file.json"});
  EXPECT_THAT(command.status().message(), HasSubstr("/no/such/file.json"));
}

TEST(ParseConfig, DeepNestingIsRefusedInsteadOfExhaustingTheStack) {
  const std::string deep =
      "{\"threads\":" + std::string(400'000, '[') + std::string(400'000, ']') + "}";
  const absl::StatusOr<Options> options = ParseConfig("c.json", deep, Options());
  EXPECT_EQ(options.status().message(), "c.json: nested too deeply: expected at most 3 levels");
}

}  // namespace
}  // namespace dreamstate::server
