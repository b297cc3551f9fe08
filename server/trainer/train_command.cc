#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/manifest.h"
#include "core/repository/repository.h"
#include "core/rwkv/config.h"
#include "core/tensors/import.h"
#include "core/text/tokenizer.h"
#include "core/training/checkpoint.h"
#include "core/training/learner_options.h"
#include "core/training/ranks.h"
#include "core/training/run.h"
#include "core/training/run_config.h"
#include "core/training/sources.h"
#include "server/trainer/command.h"
#include "server/trainer/import_backbone.h"
#include "server/trainer/run_arguments.h"
#include "server/trainer/training_display.h"
#include "server/trainer/training_session.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer train --config starter.json --run runs/starter
  dreamstate-trainer train --config starter.json --run runs/starter --resume
  torchrun --nproc-per-node 2 --no-python dreamstate-trainer train --config starter.json --run runs/starter
  dreamstate-trainer train --print-config                     # every key with its default
Started by torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), the ranks train one model.
SIGTERM, SIGHUP and Ctrl-C save a checkpoint and end with 0; --resume goes on from it.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

struct Data {
  std::shared_ptr<const training::Corpus> corpus;  // null for tasks
  std::unique_ptr<training::BatchSource> source;
  std::vector<training::Batch> validation;
  int labels = 0;
};

absl::Status CheckVocab(const training::RunConfig& config, const training::Corpus& corpus) {
  DS_ASSIGN_OR_RETURN(const auto tokenizer, text::MakeTokenizer(corpus.tokenizer()));
  if (tokenizer->vocab_size() <= config.model.vocab) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("model.vocab: expected at least ",
                                           tokenizer->vocab_size(), " for the tokens of ",
                                           config.data.corpus, ", found ", config.model.vocab));
}

// What all ranks must have alike: not where things lie, nor how a rank computes.
std::string Shared(const training::RunConfig& config, const Data& data) {
  training::RunConfig common = config;
  common.data.corpus = data.corpus == nullptr ? "" : data.corpus->digest();
  common.init = config.init.empty() ? "" : "given";
  common.device = "";
  common.threads = 0;
  common.publish = {};
  return training::SerializeRunConfig(common);
}

// What a run would find out only after hours.
absl::Status CheckCanPublish(const training::RunConfig& config) {
  const training::PublishConfig& publish = config.publish;
  if (publish.repository.empty()) return absl::OkStatus();
  DS_RETURN_IF_ERROR(WithPrefix("publish.model", repository::ValidateModelName(publish.model)));
  DS_RETURN_IF_ERROR(WithPrefix("publish.repository",
                                repository::Repository::Create(publish.repository).status()));
  // A task's tokens are no text's.
  if (config.data.source != "task") return absl::OkStatus();
  return WithPrefix("publish", CheckHasTokenizer(config.model.vocab));
}

absl::StatusOr<Data> OpenData(const training::RunConfig& config) {
  Data data;
  const training::BatchShape window = {.rows = config.batch.rows, .tokens = config.windows.tokens};
  if (config.data.source == "task") {
    DS_ASSIGN_OR_RETURN(data.source, training::MakeTaskSource(config.data.task, config.batch,
                                                              config.seed, /*held_out=*/false));
    DS_ASSIGN_OR_RETURN(const std::unique_ptr<training::BatchSource> held_out,
                        training::MakeTaskSource(config.data.task, config.batch, config.seed,
                                                 /*held_out=*/true));
    for (int i = 0; i < config.windows.task_batches; ++i) {
      DS_ASSIGN_OR_RETURN(training::Batch batch, held_out->Next());
      data.validation.push_back(std::move(batch));
    }
    return data;
  }
  DS_ASSIGN_OR_RETURN(data.corpus, training::Corpus::Open(config.data.corpus));
  data.labels = static_cast<int>(data.corpus->labels().size());
  DS_RETURN_IF_ERROR(CheckVocab(config, *data.corpus));
  if (config.data.source == "state-ready") {
    DS_ASSIGN_OR_RETURN(data.source,
                        training::MakeStateReadySource(data.corpus, config.batch,
                                                       config.data.state_ready, config.seed));
  } else if (config.data.source == "uniform") {
    DS_ASSIGN_OR_RETURN(data.source,
                        training::MakeUniformSource(data.corpus, config.batch, config.seed));
  } else {
    DS_ASSIGN_OR_RETURN(data.source, training::MakeRwkvLmSource(data.corpus, config.batch));
  }
  if (config.validation.every_steps > 0) {
    auto windows = training::HeldOutWindows(*data.corpus, training::Split::kValid, window,
                                            config.windows.per_label);
    if (!windows.ok()) {
      return WithPrefix("validation.tokens (validation.every_steps 0 goes without)",
                        windows.status());
    }
    data.validation = *std::move(windows);
  }
  return data;
}

// The tensors of config.init, empty when there is none or the run goes on from a checkpoint, which
// holds everything: the file may be gone by then. config.model becomes their sizes.
absl::StatusOr<tensors::TensorSet> InitialTensors(const RunArguments& arguments,
                                                  training::RunConfig* config) {
  if (config->init.empty()) return tensors::TensorSet();
  if (arguments.resume) {
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> checkpoints,
                        training::ListCheckpoints(arguments.run));
    const absl::StatusOr<training::RunConfig> begun = training::ReadRunConfig(arguments.run);
    if (!checkpoints.empty() && !absl::IsNotFound(begun.status())) {
      DS_RETURN_IF_ERROR(begun.status());
      config->model = begun->model;
      return tensors::TensorSet();
    }
  }
  DS_ASSIGN_OR_RETURN(tensors::TensorSet initial, tensors::ImportBackbone(config->init));
  DS_ASSIGN_OR_RETURN(const rwkv::Config found, rwkv::Config::FromTensors(initial));
  config->model = training::SizesOf(found);
  return initial;
}

absl::StatusOr<std::unique_ptr<training::Learner>> MakeLearner(const training::RunConfig& config,
                                                               const Data& data,
                                                               const tensors::TensorSet& initial,
                                                               const training::Ranks& ranks) {
  training::LearnerOptions options;
  options.ranks = ranks;
  options.sizes = config.model;
  if (!initial.tensors().empty()) options.initial = &initial;
  options.mode = config.mode;
  options.labels = config.mode == training::TrainingMode::kStateTuning ? data.labels : 0;
  options.optimiser = config.optimiser;
  options.bf16 = config.bf16;
  options.device = config.device;
  options.threads = config.threads;
  options.micro_batch_rows = config.micro_batch_rows;
  options.bank_slots = data.source->bank_slots();
  options.batch = config.batch;
  options.seed = config.seed;
  options.shared = Shared(config, data);
  return training::MakeBackboneLearner(options);
}

// `tokenizer` empty: the one that models of this vocabulary have.
absl::StatusOr<int64_t> Publish(const training::PublishConfig& publish,
                                const std::string& tokenizer, training::Learner& learner,
                                int64_t step, const nlohmann::json& metrics) {
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, learner.Export(/*fp32=*/false));
  ImportOptions options;
  options.name = publish.model;
  options.repository = publish.repository;
  options.tokenizer = tokenizer;
  options.metrics = metrics;
  options.trainer_step = step;
  options.allow_losing_components = publish.allow_losing_components;
  DS_ASSIGN_OR_RETURN(const Imported imported, PublishBackbone(set, options));
  return imported.manifest.version;
}

absl::StatusOr<training::RunConfig> ReadConfig(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, training::kMostRunConfigBytes));
  return training::ParseRunConfig(path, text);
}

absl::Status PrintConfig(const RunArguments& arguments) {
  training::RunConfig config;
  if (!arguments.config.empty()) {
    DS_ASSIGN_OR_RETURN(config, ReadConfig(arguments.config));
  }
  std::cout << training::SerializeRunConfig(config);
  return absl::OkStatus();
}

absl::Status Train(const RunArguments& arguments) {
  IgnoreBrokenPipes();
  DS_ASSIGN_OR_RETURN(const training::Ranks ranks, training::RanksFromEnvironment());
  DS_ASSIGN_OR_RETURN(training::RunConfig config, ReadConfig(arguments.config));
  if (config.data.source == "task") {
    config.model.vocab = training::TaskVocab(config.data.task);
  }
  const bool writes = ranks.rank == 0;
  if (writes) DS_RETURN_IF_ERROR(CheckCanPublish(config));
  tensors::TensorSet initial;
  DS_ASSIGN_OR_RETURN(initial, InitialTensors(arguments, &config));
  DS_ASSIGN_OR_RETURN(Data data, OpenData(config));
  training::Run run = training::MakeRun(config, arguments.run);
  run.writes = writes;
  run.validation = std::move(data.validation);
  run.labels = data.labels;
  std::ostream silence(nullptr);
  TrainingDisplay display(run.writes ? std::cout : silence, isatty(STDOUT_FILENO) != 0);
  if (!ranks.alone()) {
    display.Note(StrCat("rank ", ranks.rank, " of ", ranks.size, " meets the others at ",
                        ranks.address, ":", ranks.port));
  }
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<training::Learner> learner,
                      MakeLearner(config, data, initial, ranks));
  initial = {};  // the learner has them
  display.Note(absl::StrFormat("%d parameters on %s, %d x %d tokens a step, %d steps",
                               learner->parameters(), learner->device(), config.batch.rows,
                               config.batch.tokens, config.schedule.steps));
  const TrainingSession session = {
      .resume = arguments.resume,
      .admin_address = arguments.admin_address,
      .publish = [&](training::Learner& trained, int64_t step, const nlohmann::json& measured) {
        return Publish(config.publish, data.corpus == nullptr ? "" : data.corpus->tokenizer(),
                       trained, step, measured);
      }};
  return RunTraining(run, *learner, *data.source, session, display);
}

}  // namespace

Command MakeTrainCommand(CLI::App& app) {
  const auto arguments = std::make_shared<RunArguments>();
  CLI::App* train = app.add_subcommand("train", "Train a backbone, or states for one");
  AddRunArguments(*train, arguments.get(), kExamples, training::DescribeRunConfig);
  return {.app = train, .run = [arguments] {
            return arguments->print_config ? PrintConfig(*arguments) : Train(*arguments);
          }};
}

}  // namespace dreamstate::trainer
