#include <unistd.h>

#include <atomic>
#include <csignal>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "nlohmann/json.hpp"
#include "server/trainer/command.h"
#include "server/trainer/harvest_states.h"
#include "server/trainer/token_progress.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer harvest --repository models --model mine --corpus corpus --to states
  dreamstate-trainer harvest --repository models --model mine --corpus corpus --to states --worker 1 --workers 4
A data set that was begun is gone on with; workers of other processes may make the same one.
SIGTERM and Ctrl-C end it behind the shard that is made; what was made stays.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

struct Arguments {
  HarvestOptions options;
  std::string weights = "fp32";
  bool json = false;
};

std::atomic<bool> g_stop = false;
void Stop(int) { g_stop = true; }

absl::Status Harvest(Arguments& arguments) {
  HarvestOptions& options = arguments.options;
  DS_ASSIGN_OR_RETURN(options.weights, rwkv::ParseWeightFormat(arguments.weights));
  if (options.worker >= options.workers) {
    return absl::InvalidArgumentError("--worker: expected a number below --workers");
  }
  TokenProgress progress(std::cerr, isatty(STDERR_FILENO) == 1);
  options.progress = [&progress](std::string_view stage, int64_t done, int64_t total) {
    progress.Show(stage, done, total);
  };
  options.stopping = [] { return g_stop.load(); };
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, Stop);
  DS_ASSIGN_OR_RETURN(const HarvestReport report, HarvestStates(options));
  progress.End();
  if (arguments.json) {
    const nlohmann::ordered_json out = {{"data_set", options.directory},
                                        {"shards_made", report.shards_made},
                                        {"shards_there", report.shards_there},
                                        {"states", report.states},
                                        {"tokens", report.tokens},
                                        {"complete", report.complete}};
    std::cout << out.dump() << "\n";
    return absl::OkStatus();
  }
  std::cout << absl::StrFormat("%s: %d states of %d tokens in %d shards, %d were there; %s\n",
                               options.directory, report.states, report.tokens, report.shards_made,
                               report.shards_there,
                               report.complete ? "complete" : "other workers' shards are missing");
  return absl::OkStatus();
}

}  // namespace

Command MakeHarvestCommand(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  HarvestOptions& options = arguments->options;
  CLI::App* harvest =
      app.add_subcommand("harvest", "Make a data set of states for a state DiT to be trained on");
  harvest->footer(kExamples);
  AddBackboneOptions(*harvest, &options.backbone);
  harvest->add_option("--corpus", options.corpus, "Directory that \"corpus\" made")->required();
  harvest->add_option("--to", options.directory, "Directory to make or to go on with")->required();
  harvest->add_option("--positions", options.positions, "Tokens that a state has read")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  harvest->add_flag("--before", options.before, "Also keep the states before the separator");
  harvest->add_option("--excerpts", options.excerpts, "Excerpts of each document, to condition on")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  harvest->add_option("--excerpt-tokens", options.excerpt_tokens, "Tokens of an excerpt")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  harvest
      ->add_option("--taps", options.taps,
                   "Layers whose activations condition; by default the middle and the last one")
      ->delimiter(',')
      ->check(CLI::Range(0, 1023));
  harvest->add_option("--shard-documents", options.documents_per_shard, "Documents of a shard")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  harvest->add_option("--weights", arguments->weights, "Format of the weights")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->capture_default_str();
  harvest->add_option("--worker", options.worker, "Makes every so manieth shard")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  harvest->add_option("--workers", options.workers, "How many workers there are")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  harvest->add_option("--threads", options.threads, "Processors to use; 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  harvest->add_option("--seed", options.seed, "Of the excerpts")->capture_default_str();
  harvest->add_flag("--json", arguments->json, "Print JSON");
  return {harvest, [arguments] { return Harvest(*arguments); }};
}

}  // namespace dreamstate::trainer
