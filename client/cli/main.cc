// The program `dreamstate`: what a person types. Commands are in registry.cc.
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/arguments.h"
#include "client/cli/exit_codes.h"
#include "client/cli/registry.h"
#include "client/cli/session.h"
#include "client/rpc_status.h"

namespace dreamstate::cli {
namespace {

constexpr char kFooter[] =
    "Examples:\n"
    "  dreamstate models\n"
    "  dreamstate states harvest book.txt\n"
    "  dreamstate decode --from STATE --branches 3 \"And then\"\n"
    "  dreamstate score --file chapter2.txt --from STATE --from empty\n"
    "  dreamstate COMMAND --help\n"
    "\n"
    "STATE is a state's name (states/01h…) or its id alone. Results go to stdout, notes to "
    "stderr.\n"
    "\n"
    "Exit codes: 0 done, 1 the server said no or a part failed, 2 the command line or an input "
    "file is wrong,\n"
    "            3 no server answers, 130 interrupted.";

std::string Explanation(const absl::Status& status, const Session& session,
                        const std::string& server) {
  if (IsUsageError(status) || IsPartFailedError(status)) return std::string(status.message());
  if (absl::IsCancelled(status)) return "interrupted";
  if (client::IsUnreachable(status)) {
    return absl::StrCat(
        server, ": ", client::Explain(status),
        " (is dreamstate-server running there? --server or DREAMSTATE_SERVER says where)");
  }
  return client::Explain(status);
}

// What is wrong with a command line, for a person: a flag that does not exist is named alone,
// without the words that CLI11 then no longer knows what to do with.
std::string UsageMessage(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = app.get_name();
  for (auto chosen = app.get_subcommands(); !chosen.empty();
       chosen = chosen.front()->get_subcommands()) {
    absl::StrAppend(&command, " ", chosen.front()->get_name());
  }
  std::string what = error.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    for (const std::string& word : app.remaining(/*recurse=*/true)) {
      if (word.size() < 2 || word[0] != '-') continue;
      what = absl::StrCat("unknown flag ", word.substr(0, word.find('=')));
      break;
    }
  }
  return absl::StrCat(what, "; \"", command, " --help\" says what there is");
}

int Main(int argc, char** argv) {
  // gRPC's own log would mix with our one-line errors.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  Session session;
  GlobalOptions& global = session.global();
  CLI::App app(
      "Works with a dreamstate server: harvest, keep, branch and decode from states of RWKV-7 "
      "models.",
      "dreamstate");
  app.set_version_flag("--version", "dreamstate " DREAMSTATE_VERSION, "Print the version");
  app.set_help_flag("-h,--help", "Print this help");
  app.get_formatter()->column_width(34);
  app.footer(kFooter);
  app.require_subcommand(1);
  app.add_option("--server", global.server, "Where the server is, host:port")
      ->envname("DREAMSTATE_SERVER")
      ->default_str("localhost:50051");
  AddDuration(app, "--timeout", &global.timeout,
              "Give up after this long, for example 30s; default: never");
  app.add_flag("--json", global.output.json,
               "Print one JSON object a line: protobuf JSON with camelCase keys, 64-bit integers "
               "as strings");
  app.add_flag("-q,--quiet", global.output.quiet, "No notes and no progress on stderr");
  global.server = "localhost:50051";
  AddCommands(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    // Of a word that no group of commands knows there is no help.
    const CLI::App* chosen = &app;
    while (!chosen->get_subcommands().empty()) chosen = chosen->get_subcommands().front();
    const bool is_command = chosen->get_subcommands([](const CLI::App*) { return true; }).empty();
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    if (is_command || unknown.empty()) return app.exit(help);
    session.output().Error(absl::StrCat("no such command: ", client::OneLine(unknown[0]),
                                        "; dreamstate --help lists them"));
    return kExitUsage;
  } catch (const CLI::RequiredError& error) {
    const std::vector<std::string> unknown = app.remaining();
    if (unknown.empty()) {
      session.output().Error(UsageMessage(app, error));
    } else {
      session.output().Error(absl::StrCat("no such command: ", client::OneLine(unknown[0]),
                                          "; dreamstate --help lists them"));
    }
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    session.output().Error(UsageMessage(app, error));
    return kExitUsage;
  }

  absl::Status status = session.Run();
  if (absl::Status written = session.output().Finish(); status.ok()) status = written;
  if (!status.ok() && !status.message().empty()) {
    session.output().Error(Explanation(status, session, global.server));
  } else if (absl::IsCancelled(status)) {
    session.output().Error("interrupted");
  }
  return ExitCodeOf(status);
}

}  // namespace
}  // namespace dreamstate::cli

int main(int argc, char** argv) { return dreamstate::cli::Main(argc, argv); }
