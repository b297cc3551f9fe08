#include "server/trainer/evaluate_states_command.h"

#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/picture/png.h"
#include "server/trainer/evaluate_states.h"
#include "server/trainer/output_file.h"
#include "server/trainer/token_progress.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer evaluate states --states states
  dreamstate-trainer evaluate states --states states --repository models --model mine --corpus corpus \
      --windows 12 --pictures pictures
Prints for each head how large its states are, how near to one direction, and what of their label it
shows; with a backbone and a corpus also what of the states' worth is left at a low rank, through the
codec, of single layers and with few bits, with controls that must fail.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

struct Arguments {
  EvaluateStatesOptions options;
  std::string split = "valid";
  std::string weights = "fp32";
  uint64_t seed = 0;
  std::string markdown;
  std::string pictures;
  bool json = false;
};

training::Split SplitNamed(const std::string& name) {
  if (name == "train") return training::Split::kTrain;
  return name == "valid" ? training::Split::kValid : training::Split::kTest;
}

absl::Status MakeFolder(std::string_view flag, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (std::filesystem::is_directory(path)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(flag, ": expected a directory or room for one, found neither (", path, ")"));
}

absl::Status WritePictures(const StatesEvaluation& result, const Arguments& arguments) {
  if (arguments.pictures.empty()) return absl::OkStatus();
  DS_ASSIGN_OR_RETURN(const std::vector<evaluation::NamedImage> images,
                      evaluation::DrawStateStatistics(result.heads, arguments.options.choice));
  for (const evaluation::NamedImage& one : images) {
    DS_ASSIGN_OR_RETURN(const std::string png, picture::EncodePng(one.image));
    DS_RETURN_IF_ERROR(WriteFileAtomically(StrCat(arguments.pictures, "/", one.name, ".png"), png));
  }
  return absl::OkStatus();
}

absl::Status Evaluate(Arguments& arguments) {
  EvaluateStatesOptions& options = arguments.options;
  DS_ASSIGN_OR_RETURN(options.weights, rwkv::ParseWeightFormat(arguments.weights));
  options.choice.split = SplitNamed(arguments.split);
  options.choice.seed = arguments.seed;
  options.state_options.windows.seed = arguments.seed;
  options.state_options.bootstrap.seed = arguments.seed;
  DS_RETURN_IF_ERROR(CheckIsFile("--markdown", arguments.markdown));
  DS_RETURN_IF_ERROR(MakeFolder("--pictures", arguments.pictures));
  TokenProgress progress(std::cerr, isatty(STDERR_FILENO) == 1);
  options.progress = [&progress](std::string_view stage, int64_t done, int64_t total) {
    progress.Show(stage, done, total);
  };
  DS_ASSIGN_OR_RETURN(const StatesEvaluation result, EvaluateStates(options));
  progress.End();
  std::cout << (arguments.json ? StatesJson(result, options).dump() + "\n"
                               : StatesText(result, options));
  if (!arguments.markdown.empty()) {
    DS_RETURN_IF_ERROR(WriteFileAtomically(arguments.markdown, StatesMarkdown(result, options)));
  }
  return WritePictures(result, arguments);
}

void AddMeasurement(CLI::App& states, Arguments* arguments) {
  EvaluateStatesOptions& options = arguments->options;
  evaluation::WindowOptions& windows = options.state_options.windows;
  CLI::Option* repository =
      states.add_option("--repository", options.backbone.repository, "Worth: model repository");
  CLI::Option* model =
      states.add_option("--model", options.backbone.model, "Worth: name of the model")
          ->needs(repository);
  repository->needs(model);
  states.add_option("--version", options.backbone.version, "Its version; by default the newest")
      ->needs(model);
  CLI::Option* corpus =
      states
          .add_option("--corpus", options.corpus, "Worth: the corpus that the data set was made of")
          ->needs(model);
  model->needs(corpus);
  states.add_option("--weights", arguments->weights, "Worth: format of the weights")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->capture_default_str();
  states.add_option("--length", windows.length, "Worth: tokens scored behind the states")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  states.add_option("--windows", windows.windows_per_label, "Worth: documents a domain at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  states
      .add_option("--label-documents", windows.label_documents,
                  "Worth: training documents a domain at most")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  states.add_option("--threads", options.threads, "Worth: processors to use; 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

}  // namespace

Command MakeEvaluateStatesCommand(CLI::App& evaluate) {
  const auto arguments = std::make_shared<Arguments>();
  evaluation::StateChoice& choice = arguments->options.choice;
  CLI::App* states = evaluate.add_subcommand(
      "states", "What states look like, and what may be thrown away of them");
  states->footer(kExamples);
  states->add_option("--states", arguments->options.states, "Directory that \"harvest\" made")
      ->required();
  states->add_option("--split", arguments->split, "Documents to measure on")
      ->check(CLI::IsMember({"train", "valid", "test"}))
      ->capture_default_str();
  states->add_option("--position", choice.position, "Tokens that a state has read")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  states->add_option("--most", choice.most, "States described at most")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  AddMeasurement(*states, arguments.get());
  states->add_option("--seed", arguments->seed, "Of all choices and intervals")
      ->capture_default_str();
  states->add_flag("--json", arguments->json, "Print all figures as one line of JSON");
  states->add_option("--markdown", arguments->markdown, "Write the tables to this file, too");
  states->add_option("--pictures", arguments->pictures,
                     "Write heat maps of the heads into this directory");
  return {states, [arguments] { return Evaluate(*arguments); }};
}

}  // namespace dreamstate::trainer
