// dreamstate-trainer: what is done to models outside the server. Exit codes: 0 done, 1 failed, 2
// wrong usage.
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "server/trainer/command.h"

namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer import rwkv7-g1-0.4b.pth --name rwkv7-0.4b --repository models
  dreamstate-trainer corpus texts --to corpus
  dreamstate-trainer train --config mine.json --run runs/mine
  dreamstate-trainer collect --repository models --keep 5
  dreamstate-trainer evaluate backbone --repository models --model mine --corpus corpus
  dreamstate-trainer import --help
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

// Names the program and the command, as failures do.
std::string UsageMessage(const CLI::App* app, const CLI::Error& error) {
  std::string program = app->get_name();
  for (auto commands = app->get_subcommands(); !commands.empty();
       commands = commands.front()->get_subcommands()) {
    program += " " + commands.front()->get_name();
  }
  return program + ": " + error.what() + "\nRun \"" + program + " --help\" for more.\n";
}

// What to say of a word where a command was expected; empty when there is none.
std::string UnknownCommand(const CLI::App& app) {
  std::string program = app.get_name();
  const CLI::App* chosen = &app;
  while (!chosen->get_subcommands().empty()) {
    chosen = chosen->get_subcommands().front();
    program += " " + chosen->get_name();
  }
  const bool has_commands = !chosen->get_subcommands([](const CLI::App*) { return true; }).empty();
  if (!has_commands) return "";
  for (const std::string& word : app.remaining(/*recurse=*/true)) {
    if (word.starts_with("-")) continue;
    return program + ": no such command: " + word + "; " + program + " --help lists them\n";
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Makes, imports and publishes models for dreamstate-server", "dreamstate-trainer");
  app.failure_message(UsageMessage);
  app.require_subcommand(1);
  app.set_version_flag("--version", "dreamstate-trainer " DREAMSTATE_VERSION);
  const std::vector<dreamstate::trainer::Command> commands = {
      dreamstate::trainer::MakeImportCommand(app),    dreamstate::trainer::MakeCollectCommand(app),
      dreamstate::trainer::MakeCorpusCommand(app),    dreamstate::trainer::MakeTrainCommand(app),
      dreamstate::trainer::MakeHarvestCommand(app),   dreamstate::trainer::MakeStateDitCommand(app),
      dreamstate::trainer::MakeCalibrateCommand(app), dreamstate::trainer::MakeEvaluateCommand(app),
  };
  app.footer(kExamples);  // commands that are added later would have it, too
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    constexpr int kUsage = 2;
    if (const std::string unknown = UnknownCommand(app); !unknown.empty()) {
      std::cerr << unknown;
      return kUsage;
    }
    // Help and version end here too, with 0.
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  for (const dreamstate::trainer::Command& command : commands) {
    if (!command.app->parsed()) continue;
    absl::Status status;
    try {
      status = command.run();
    } catch (const std::bad_alloc&) {
      status = absl::ResourceExhaustedError("no memory left");
    } catch (const std::exception& error) {
      status = absl::InternalError(error.what());
    }
    if (status.ok()) continue;
    std::cerr << "dreamstate-trainer " << command.app->get_name() << ": " << status.message()
              << "\n";
    return 1;
  }
  return 0;
}
