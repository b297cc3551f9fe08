#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "core/training/ranks.h"
#include "core/training/run_config.h"
#include "core/training/state_dit_config.h"
#include "core/training/state_dit_gate.h"
#include "core/training/state_dit_learner.h"
#include "core/training/tuning_source.h"
#include "server/trainer/command.h"
#include "server/trainer/publish_state_dit.h"
#include "server/trainer/run_arguments.h"
#include "server/trainer/training_session.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer harvest --repository models --model mine --corpus corpus --to states
  dreamstate-trainer state-dit --config dit.json --run runs/dit
  dreamstate-trainer state-dit --config dit.json --run runs/dit --resume
  dreamstate-trainer state-dit --print-config                 # every key with its default
SIGTERM, SIGHUP and Ctrl-C save a checkpoint and end with 0; --resume goes on from it.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

absl::StatusOr<training::StateDitConfig> ReadConfig(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, training::kMostRunConfigBytes));
  return training::ParseStateDitConfig(path, text);
}

absl::Status PrintConfig(const RunArguments& arguments) {
  training::StateDitConfig config;
  if (!arguments.config.empty()) {
    DS_ASSIGN_OR_RETURN(config, ReadConfig(arguments.config));
  }
  std::cout << training::SerializeStateDitConfig(config);
  return absl::OkStatus();
}

// By index; those that only validation and test documents have do not get a name.
std::vector<std::string> TrainedLabels(const training::StateDatasetInfo& info) {
  std::vector<std::string> labels = info.labels;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (!info.trained[i]) labels[i].clear();
  }
  return labels;
}

struct Data {
  std::unique_ptr<training::BatchSource> source;
  std::vector<training::Batch> validation;
};

absl::StatusOr<Data> OpenData(const training::StateDitConfig& config,
                              const std::shared_ptr<const training::StateRecords>& records) {
  Data data;
  if (!config.tuning.wanted) {
    DS_ASSIGN_OR_RETURN(data.source, training::MakeStateSource(records, config.rows, config.shares,
                                                               config.learner.seed));
    data.validation =
        training::HeldOutStates(*records, config.rows, config.validation_states_per_label);
    return data;
  }
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const training::Corpus> corpus,
                      training::Corpus::Open(config.tuning.corpus));
  const training::TuningOptions options = {.rows = config.rows,
                                           .tokens = config.tuning.tokens,
                                           .shares = config.shares,
                                           .seed = config.learner.seed};
  DS_ASSIGN_OR_RETURN(data.source, training::MakeTuningSource(records, corpus, options));
  data.validation =
      training::HeldOutWindows(*records, *corpus, options, config.validation_states_per_label);
  return data;
}

absl::Status Train(const RunArguments& arguments) {
  IgnoreBrokenPipes();
  DS_ASSIGN_OR_RETURN(const training::Ranks ranks, training::RanksFromEnvironment());
  if (!ranks.alone()) {
    return absl::InvalidArgumentError("WORLD_SIZE: expected 1, a state DiT is trained by one rank");
  }
  DS_ASSIGN_OR_RETURN(training::StateDitConfig config, ReadConfig(arguments.config));
  TrainingDisplay display(std::cout, isatty(STDOUT_FILENO) != 0);
  DS_ASSIGN_OR_RETURN(const training::StateDataset dataset,
                      training::StateDataset::Open(config.states));
  tensors::TensorSet backbone, published;
  if (!config.publish.repository.empty()) {
    // What a run would find out only after hours.
    const auto manifest =
        FindBackbone(config.publish.repository, config.publish.model, dataset.info().backbone);
    if (!manifest.ok()) return WithPrefix("publish", manifest.status());
    if (config.tuning.wanted) {
      DS_ASSIGN_OR_RETURN(const auto repository,
                          repository::Repository::Open(config.publish.repository));
      DS_ASSIGN_OR_RETURN(backbone, repository->LoadComponent(*manifest, "backbone"));
      config.learner.backbone = &backbone;
      if (manifest->Find("state_dit") == nullptr) {
        return absl::FailedPreconditionError(
            "tuning: expected a version with a state DiT to go on with, found none");
      }
      DS_ASSIGN_OR_RETURN(published, repository->LoadComponent(*manifest, "state_dit"));
      config.learner.initial = &published;
    }
  }
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const training::StateRecords> records,
                      training::StateRecords::Read(dataset));
  DS_ASSIGN_OR_RETURN(const Data data, OpenData(config, records));
  DS_RETURN_IF_ERROR(MakeDirectories(arguments.run));
  config.learner.codec = arguments.run + "/codec.safetensors";
  display.Note(StrCat("reading ", records->all().size(), " states"));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<training::Learner> learner,
                      training::MakeStateDitLearner(records, config.learner));
  training::Run run = training::MakeRun(config, arguments.run);
  run.labels = static_cast<int>(records->info().labels.size());
  if (config.validation.every_steps > 0) {
    run.validation = data.validation;
  }
  display.Note(absl::StrFormat("%d parameters on %s, %d states a step of %d, %d steps",
                               learner->parameters(), learner->device(), config.rows,
                               records->training(), config.schedule.steps));
  const TrainingSession session = {
      .resume = arguments.resume,
      .admin_address = arguments.admin_address,
      .publish = [&](training::Learner& trained, int64_t step,
                     const nlohmann::json& metrics) -> absl::StatusOr<int64_t> {
        DS_ASSIGN_OR_RETURN(const tensors::TensorSet bare, trained.Export());
        DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, training::WithSafetyGate(bare, dataset));
        return PublishStateDit(set,
                               {.repository = config.publish.repository,
                                .model = config.publish.model,
                                .backbone = dataset.info().backbone,
                                .labels = TrainedLabels(dataset.info()),
                                .taps = dataset.info().taps,
                                .metrics = metrics,
                                .step = step,
                                .allow_losing_components = config.publish.allow_losing_components});
      },
      .describe =
          [tuned = config.tuning.wanted](const training::Validation& validation) {
            return tuned ? TrainingSession::DescribeTokens(validation)
                         : absl::StrFormat("%.4f velocity loss", validation.loss);
          }};
  return RunTraining(run, *learner, *data.source, session, display);
}

}  // namespace

Command MakeStateDitCommand(CLI::App& app) {
  const auto arguments = std::make_shared<RunArguments>();
  CLI::App* train = app.add_subcommand("state-dit", "Train a generator of states");
  AddRunArguments(*train, arguments.get(), kExamples, training::DescribeStateDitConfig);
  return {.app = train, .run = [arguments] {
            return arguments->print_config ? PrintConfig(*arguments) : Train(*arguments);
          }};
}

}  // namespace dreamstate::trainer
