#include "core/training/run_config.h"

#include <utility>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/config_keys.h"

namespace dreamstate::training {
namespace {

ConfigKeys Keys(RunConfig* c, std::string* mode, std::string* precision) {
  StateReadyOptions& ready = c->data.state_ready;
  TaskOptions& task = c->data.task;
  return {
      {"",
       Joined(
           {{TextKey("mode", mode, {"full", "state-tuning"},
                     "all parameters, or one initial state a label for the frozen model of init"),
             TextKey(
                 "init", &c->init, {},
                 "checkpoint to begin from, a file that import reads; its sizes replace model's"),
             TextKey("precision", precision, {"bf16", "fp32"},
                     "of matrix products; bf16 where the device has it, masters are fp32"),
             TextKey("device", &c->device, {"cpu", "cuda"},
                     "cuda needs a build with the preset cuda"),
             WholeKey("threads", &c->threads, 0, 1024, "0 = one for each processor"),
             SeedKey("seed", &c->seed, "of parameters and data")},
            LoopKeys(c)})},
      {"model",
       {WholeKey("vocab", &c->model.vocab, 2, 65536, "256 for bytes, 65536 for World tokens"),
        WholeKey("layers", &c->model.layers, 1, 256, "blocks"),
        WholeKey("width", &c->model.width, 16, 65536, "channels, a multiple of head_size"),
        WholeKey("head_size", &c->model.head_size, 16, 128, "channels of a head"),
        WholeKey("ffn_width", &c->model.ffn_width, 0, 1 << 20, "0 = 4 x width"),
        WholeKey("rank_decay", &c->model.rank_decay, 0, 1 << 16,
                 "of the low-rank decay; 0 = from width, so are the next three"),
        WholeKey("rank_iclr", &c->model.rank_iclr, 0, 1 << 16, "of the in-context learning rate"),
        WholeKey("rank_value", &c->model.rank_value, 0, 1 << 16, "of the value residual"),
        WholeKey("rank_gate", &c->model.rank_gate, 0, 1 << 16, "of the output gate")}},
      {"data",
       {TextKey("source", &c->data.source, {"state-ready", "uniform", "rwkv-lm", "task"},
                "windows that begin from states of all kinds, windows from anywhere, the official "
                "order, or a task"),
        TextKey("corpus", &c->data.corpus, {}, "directory that dreamstate-trainer corpus made"),
        NumberKey("packed_share", &ready.packed_share, 0, 1,
                  "state-ready: rows of several excerpts of one label"),
        WholeKey("excerpt_min_tokens", &ready.excerpt_min_tokens, 1, 1 << 20,
                 "state-ready: shortest excerpt"),
        WholeKey("excerpt_max_tokens", &ready.excerpt_max_tokens, 1, 1 << 20,
                 "state-ready: longest excerpt"),
        NumberKey("document_start_share", &ready.document_start_share, 0, 1,
                  "state-ready: excerpts from a document's first token"),
        NumberKey("own_share", &ready.own_share, 0, 1,
                  "state-ready: rows that begin where their document left off"),
        NumberKey("foreign_share", &ready.foreign_share, 0, 1,
                  "state-ready: rows that begin from another document's state of the label"),
        NumberKey("class_mean_share", &ready.class_mean_share, 0, 1,
                  "state-ready: rows that begin from a mean of the label's states"),
        WholeKey("mean_states", &ready.mean_states, 2, 4096, "state-ready: most states of a mean"),
        NumberKey("separator_first_share", &ready.separator_first_share, 0, 1,
                  "state-ready: rows that read the separator first"),
        NumberKey("keep_share", &ready.keep_share, 0, 1,
                  "state-ready: rows whose last state is kept for others"),
        WholeKey("slots_per_label", &ready.slots_per_label, 1, 4096,
                 "state-ready: states kept of a label"),
        TextKey("task", &task.task, {"reversal", "parity", "mqar"}, "task: which"),
        WholeKey("digits", &task.digits, 1, 1 << 16, "reversal: longest number"),
        WholeKey("pairs", &task.pairs, 1, 1 << 16, "mqar: most pairs of key and value"),
        WholeKey("task_vocab", &task.vocab, 4, 65536, "mqar: half keys, half values"),
        WholeKey("length", &task.length, 1, 1 << 16, "parity: most bits")}},
      {"batch",
       {WholeKey("rows", &c->batch.rows, 1, 1 << 16, "windows a step, of all ranks together"),
        WholeKey("tokens", &c->batch.tokens, 1, 1 << 20, "of a window"),
        WholeKey("micro_batch_rows", &c->micro_batch_rows, 0, 1 << 16,
                 "windows computed at once, for less memory; 0 = all of a rank's")}},
      {"optimiser", Joined({ScheduleKeys(&c->schedule), OptimiserKeys(&c->optimiser)})},
      {"checkpoint", CheckpointKeys(&c->checkpoint)},
      {"validation",
       {WholeKey("every_steps", &c->validation.every_steps, 0, kManySteps, "0 = never"),
        WholeKey("windows_per_label", &c->windows.per_label, 1, 10000,
                 "of documents that are not trained on"),
        WholeKey("tokens", &c->windows.tokens, 1, 1 << 20, "of such a window"),
        WholeKey("task_batches", &c->windows.task_batches, 1, 10000, "task: held-out batches")}},
      {"publish", PublishKeys(&c->publish)},
  };
}

absl::Status CheckTogether(std::string_view source, const RunConfig& config) {
  const auto wrong = [&](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(source, ": ", what));
  };
  if (config.data.source != "task" && config.data.corpus.empty()) {
    return wrong(StrCat("data.corpus: expected the directory of a corpus for data.source ",
                        config.data.source, ", found none"));
  }
  if (!config.publish.repository.empty() && config.publish.model.empty()) {
    return wrong("publish.model: expected a name to publish under, found none");
  }
  if (config.mode == TrainingMode::kStateTuning) {
    if (config.init.empty())
      return wrong("init: expected a checkpoint to tune states of, found none");
    if (config.data.source != "state-ready") {
      return wrong("data.source: expected state-ready, whose rows have labels, for state-tuning");
    }
    if (!config.publish.repository.empty()) {
      return wrong("publish.repository: expected none, tuned states are no model");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunConfig> ParseRunConfig(std::string_view source, std::string_view text) {
  RunConfig config;
  std::string mode = "full", precision = "bf16";
  DS_RETURN_IF_ERROR(ReadConfig(Keys(&config, &mode, &precision), source, text));
  config.mode = mode == "full" ? TrainingMode::kFull : TrainingMode::kStateTuning;
  config.bf16 = precision == "bf16";
  DS_RETURN_IF_ERROR(CheckTogether(source, config));
  return config;
}

absl::StatusOr<RunConfig> ReadRunConfig(const std::string& run) {
  const std::string path = RunConfigPath(run);
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostRunConfigBytes));
  return ParseRunConfig(path, text);
}

std::string SerializeRunConfig(const RunConfig& config) {
  RunConfig copy = config;
  std::string mode = config.mode == TrainingMode::kFull ? "full" : "state-tuning";
  std::string precision = config.bf16 ? "bf16" : "fp32";
  return WriteConfig(Keys(&copy, &mode, &precision));
}

std::string DescribeRunConfig() {
  RunConfig defaults;
  std::string mode = "full", precision = "bf16";
  return DescribeConfig(Keys(&defaults, &mode, &precision));
}

absl::Status CheckContinues(const RunConfig& begun, const RunConfig& now) {
  return CheckSameConfig(SerializeRunConfig(begun), SerializeRunConfig(now),
                         {"/mode", "/seed", "/batch/rows", "/batch/tokens", "/model", "/data"},
                         {"/data/corpus"});
}

Run MakeRun(const RunConfig& config, const std::string& directory) {
  Run run;
  run.loop = config;
  run.config = SerializeRunConfig(config);
  run.continues = [config](const std::string& begun_in) -> absl::Status {
    const absl::StatusOr<RunConfig> begun = ReadRunConfig(begun_in);
    if (absl::IsNotFound(begun.status())) return absl::OkStatus();
    DS_RETURN_IF_ERROR(begun.status());
    return CheckContinues(*begun, config);
  };
  run.directory = directory;
  return run;
}

}  // namespace dreamstate::training
