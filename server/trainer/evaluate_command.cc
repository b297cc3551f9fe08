#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/evaluation/state_use_picture.h"
#include "core/picture/png.h"
#include "server/trainer/command.h"
#include "server/trainer/evaluate_backbone.h"
#include "server/trainer/evaluate_state_dit.h"
#include "server/trainer/evaluate_states_command.h"
#include "server/trainer/output_file.h"
#include "server/trainer/token_progress.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer evaluate backbone --repository models --model mine --corpus corpus
  dreamstate-trainer evaluate backbone --checkpoint model.pth --corpus corpus --only domains
  dreamstate-trainer evaluate backbone --repository models --model mine --corpus corpus \
      --split valid --limit 16384 --json
Prints bits per byte by domain, and the bits that initial states save on the tokens behind them:
own states, those of other documents, averages, prompts, and controls that must fail.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

constexpr char kStateDitExamples[] = R"(Examples:
  dreamstate-trainer evaluate state-dit --repository models --model mine --corpus corpus
  dreamstate-trainer evaluate state-dit --repository models --model mine --corpus corpus --split valid --json
Prints the bits that generated states save on the tokens behind them, beside own states, averages and
the same excerpts as prompts, and whether they are like real states; with controls that must fail.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

struct StateDitArguments {
  EvaluateStateDitOptions options;
  std::string split = "test";
  std::string weights = "fp32";
  std::string only;
  uint64_t seed = 0;
  std::string markdown;
  bool json = false;
};

struct Arguments {
  EvaluateOptions options;
  std::string split = "test";
  std::string weights = "bf16";
  std::string only;
  uint64_t seed = 0;
  std::string markdown;
  std::string picture;
  bool json = false;
};

training::Split SplitNamed(const std::string& name) {
  return name == "valid" ? training::Split::kValid : training::Split::kTest;
}

absl::Status EvaluateDit(StateDitArguments& arguments) {
  EvaluateStateDitOptions& options = arguments.options;
  DS_ASSIGN_OR_RETURN(options.weights, rwkv::ParseWeightFormat(arguments.weights));
  options.state_options.windows.split = SplitNamed(arguments.split);
  options.state_options.windows.seed = arguments.seed;
  options.state_options.bootstrap.seed = arguments.seed;
  options.generated.seed = arguments.seed;
  options.use = arguments.only.empty() || arguments.only == "use";
  options.fidelity = arguments.only.empty() || arguments.only == "fidelity";
  options.edits = arguments.only == "edits";
  DS_RETURN_IF_ERROR(CheckIsFile("--markdown", arguments.markdown));
  TokenProgress progress(std::cerr, isatty(STDERR_FILENO) == 1);
  options.progress = [&progress](std::string_view stage, int64_t done, int64_t total) {
    progress.Show(stage, done, total);
  };
  DS_ASSIGN_OR_RETURN(const StateDitEvaluation result, EvaluateStateDit(options));
  progress.End();
  std::cout << (arguments.json ? StateDitJson(result, options).dump() + "\n"
                               : StateDitText(result, options));
  if (arguments.markdown.empty()) return absl::OkStatus();
  return WriteFileAtomically(arguments.markdown, StateDitMarkdown(result, options));
}

void AddWindowOptions(CLI::App& command, evaluation::WindowOptions* windows) {
  command.add_option("--position", windows->position, "States: tokens that a state has read")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--length", windows->length, "States: tokens scored behind them")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_option("--windows", windows->windows_per_label, "States: documents a domain at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      .add_option("--label-documents", windows->label_documents,
                  "States: training documents a domain at most")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
}

void AddStateDit(CLI::App& evaluate, const std::shared_ptr<StateDitArguments>& arguments) {
  EvaluateStateDitOptions& options = arguments->options;
  CLI::App* dit = evaluate.add_subcommand("state-dit", "What the states that it makes are worth");
  dit->footer(kStateDitExamples);
  dit->add_option("--repository", options.repository, "Model repository")->required();
  dit->add_option("--model", options.model, "Name of its model")->required();
  dit->add_option("--version", options.version, "Its version; by default the newest");
  dit->add_option("--corpus", options.corpus, "Directory that \"corpus\" made")->required();
  dit->add_option("--split", arguments->split, "Documents to measure on")
      ->check(CLI::IsMember({"valid", "test"}))
      ->capture_default_str();
  dit->add_option("--weights", arguments->weights, "Format of the backbone's weights")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->capture_default_str();
  dit->add_option(
         "--only", arguments->only,
         "One of the measurements; edits (projection, repair, inpainting, translation) are "
         "made only when they are named")
      ->check(CLI::IsMember({"use", "fidelity", "edits"}));
  AddWindowOptions(*dit, &options.state_options.windows);
  dit->add_option("--excerpt-tokens", options.generated.excerpt_tokens, "Tokens of an excerpt")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  dit->add_option("--draws", options.generated.draws, "Samples tried on each window")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  dit->add_option("--steps", options.generated.steps, "Of a sample")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  dit->add_option("--guidance", options.generated.guidance, "Of the row with guidance")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  dit->add_option("--seed", arguments->seed, "Of all choices, noise and intervals")
      ->capture_default_str();
  dit->add_option("--threads", options.threads, "Processors to use; 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  dit->add_flag("--json", arguments->json, "Print all figures as one line of JSON");
  dit->add_option("--markdown", arguments->markdown, "Write the table to this file, too");
}

absl::Status Evaluate(Arguments& arguments) {
  EvaluateOptions& options = arguments.options;
  DS_ASSIGN_OR_RETURN(options.weights, rwkv::ParseWeightFormat(arguments.weights));
  const training::Split split = SplitNamed(arguments.split);
  options.domain_options.split = split;
  options.domain_options.bootstrap.seed = arguments.seed;
  options.state_options.windows.split = split;
  options.state_options.windows.seed = arguments.seed;
  options.state_options.bootstrap = options.domain_options.bootstrap;
  options.domains = arguments.only != "states";
  options.states = arguments.only != "domains";
  // Before minutes go into what could not be written.
  DS_RETURN_IF_ERROR(CheckIsFile("--markdown", arguments.markdown));
  DS_RETURN_IF_ERROR(CheckIsFile("--picture", arguments.picture));
  TokenProgress progress(std::cerr, isatty(STDERR_FILENO) == 1);
  options.progress = [&progress](std::string_view stage, int64_t done, int64_t total) {
    progress.Show(stage, done, total);
  };
  DS_ASSIGN_OR_RETURN(const BackboneEvaluation result, EvaluateBackbone(options));
  progress.End();
  if (arguments.json) {
    std::cout << EvaluationJson(result, options).dump() << "\n";
  } else {
    std::cout << EvaluationText(result, options);
  }
  if (!arguments.markdown.empty()) {
    DS_RETURN_IF_ERROR(
        WriteFileAtomically(arguments.markdown, EvaluationMarkdown(result, options)));
  }
  if (arguments.picture.empty() || !result.states) return absl::OkStatus();
  DS_ASSIGN_OR_RETURN(const picture::Image image,
                      evaluation::DrawStateUse(*result.states, options.state_options));
  DS_ASSIGN_OR_RETURN(const std::string png, picture::EncodePng(image));
  return WriteFileAtomically(arguments.picture, png);
}

}  // namespace

Command MakeEvaluateCommand(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  EvaluateOptions& options = arguments->options;
  CLI::App* evaluate = app.add_subcommand("evaluate", "Measure a model or its states on a corpus");
  evaluate->require_subcommand(1);
  CLI::App* backbone = evaluate->add_subcommand(
      "backbone", "Bits per byte by domain, and what initial states are worth");
  backbone->footer(kExamples);
  AddBackboneOptions(*backbone, &options.backbone);
  backbone->add_option("--corpus", options.corpus, "Directory that \"corpus\" made")->required();
  backbone->add_option("--split", arguments->split, "Documents to measure on")
      ->check(CLI::IsMember({"valid", "test"}))
      ->capture_default_str();
  backbone->add_option("--weights", arguments->weights, "Format of the weights")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->capture_default_str();
  backbone->add_option("--only", arguments->only, "One of the two measurements")
      ->check(CLI::IsMember({"domains", "states"}));
  backbone
      ->add_option("--document-bytes", options.domain_options.limits.document_bytes,
                   "Bits per byte: of the first bytes of a document")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  backbone
      ->add_option("--limit", options.domain_options.limits.label_bytes,
                   "Bits per byte: bytes of a domain at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  AddWindowOptions(*backbone, &options.state_options.windows);
  backbone->add_option("--seed", arguments->seed, "Of all choices and intervals")
      ->capture_default_str();
  backbone->add_option("--threads", options.threads, "Processors to use; 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  backbone->add_flag("--json", arguments->json, "Print all figures as one line of JSON");
  backbone->add_option("--markdown", arguments->markdown, "Write the tables to this file, too");
  backbone->add_option("--picture", arguments->picture,
                       "Write what states save by distance to this PNG file");
  const auto dit = std::make_shared<StateDitArguments>();
  AddStateDit(*evaluate, dit);
  const Command states = MakeEvaluateStatesCommand(*evaluate);
  return {evaluate, [arguments, dit, backbone, states] {
            if (states.app->parsed()) return states.run();
            return backbone->parsed() ? Evaluate(*arguments) : EvaluateDit(*dit);
          }};
}

}  // namespace dreamstate::trainer
