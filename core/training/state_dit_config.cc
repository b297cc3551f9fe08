#include "core/training/state_dit_config.h"

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/config_keys.h"
#include "core/training/run_config.h"

namespace dreamstate::training {
namespace {

ConfigKeys Keys(StateDitConfig* c, std::string* precision) {
  StateDitOptions& learner = c->learner;
  diffusion::DitSizes& sizes = learner.sizes;
  return {
      {"", Joined({{TextKey("precision", precision, {"bf16", "fp32"},
                            "of matrix products; bf16 where the device has it, masters are fp32"),
                    TextKey("device", &learner.device, {"cpu", "cuda"},
                            "cuda needs a build with the preset cuda"),
                    WholeKey("threads", &learner.threads, 0, 1024, "0 = one for each processor"),
                    SeedKey("seed", &learner.seed, "of parameters, data and noise")},
                   LoopKeys(c)})},
      {"dit",
       {WholeKey("width", &sizes.width, 16, 1 << 13, "channels, a multiple of head_size"),
        WholeKey("layers", &sizes.layers, 1, 128, "blocks"),
        WholeKey("head_size", &sizes.head_size, 8, 256, "channels of an attention head"),
        WholeKey("mlp", &sizes.mlp, 16, 1 << 15, "hidden channels of SwiGLU"),
        WholeKey("registers", &sizes.registers, 0, 64, "tokens that stand for nothing"),
        WholeKey("text_tokens", &sizes.text_tokens, 1, 256, "tokens that a text becomes")}},
      {"codec",
       {WholeKey("blocks", &sizes.blocks, 1, 4,
                 "of a head's four half-by-half blocks, strongest first; the others stay at their "
                 "mean"),
        WholeKey("states", &learner.codec_states, 2, 1 << 20,
                 "training states that it is fitted on")}},
      {"data",
       {TextKey("states", &c->states, {}, "directory that dreamstate-trainer harvest made"),
        NumberKey("label_share", &c->shares.label, 0, 1, "rows that are told their label"),
        NumberKey("text_share", &c->shares.text, 0, 1, "rows that are told an excerpt"),
        NumberKey("both_share", &c->shares.both, 0, 1, "rows that are told both; others nothing"),
        WholeKey("excerpt_min_tokens", &c->shares.excerpt_min_tokens, 1, 1 << 16,
                 "of an excerpt that are told")}},
      {"flow",
       {NumberKey("time_mean", &learner.flow.time_mean, -10, 10,
                  "of the normal variable whose sigmoid is the time"),
        NumberKey("time_deviation", &learner.flow.time_deviation, 0.01, 10, "of the same"),
        NumberKey("noise_share", &learner.flow.noise_share, 0, 1, "states at time 0, pure noise"),
        NumberKey("ema_decay", &learner.ema_decay, 0, 0.999999,
                  "of the average of the weights, which is what is published")}},
      {"tuning",
       {FlagKey("wanted", &c->tuning.wanted,
                "learn the mode `tuned` through the frozen backbone, going on with the state DiT "
                "of publish.model, whose sizes and codec it keeps"),
        TextKey("corpus", &c->tuning.corpus, {}, "directory that the states were harvested from"),
        WholeKey("tokens", &c->tuning.tokens, 2, 1 << 14, "that each state has to help with"),
        NumberKey("flow_weight", &learner.flow_weight, 0, 1e6,
                  "of the flow loss beside their cross entropy")}},
      {"batch", {WholeKey("rows", &c->rows, 1, 1 << 16, "states a step")}},
      {"optimiser", Joined({ScheduleKeys(&c->schedule), OptimiserKeys(&learner.optimiser)})},
      {"checkpoint", CheckpointKeys(&c->checkpoint)},
      {"validation",
       {WholeKey("every_steps", &c->validation.every_steps, 0, kManySteps, "0 = never"),
        WholeKey("states_per_label", &c->validation_states_per_label, 1, 10000,
                 "of documents that are not trained on")}},
      {"publish", PublishKeys(&c->publish)},
  };
}

}  // namespace

absl::StatusOr<StateDitConfig> ParseStateDitConfig(std::string_view source, std::string_view text) {
  StateDitConfig config;
  std::string precision = "bf16";
  DS_RETURN_IF_ERROR(ReadConfig(Keys(&config, &precision), source, text));
  config.learner.bf16 = precision == "bf16";
  if (config.states.empty()) {
    return absl::InvalidArgumentError(
        StrCat(source, ": data.states: expected the directory of a data set, found none"));
  }
  if (!config.publish.repository.empty() && config.publish.model.empty()) {
    return absl::InvalidArgumentError(
        StrCat(source, ": publish.model: expected the model whose state DiT it is, found none"));
  }
  if (config.tuning.wanted && (config.tuning.corpus.empty() || config.publish.repository.empty())) {
    return absl::InvalidArgumentError(
        StrCat(source, ": tuning: expected tuning.corpus and publish.repository with it"));
  }
  return config;
}

std::string SerializeStateDitConfig(const StateDitConfig& config) {
  StateDitConfig copy = config;
  std::string precision = config.learner.bf16 ? "bf16" : "fp32";
  return WriteConfig(Keys(&copy, &precision));
}

std::string DescribeStateDitConfig() {
  StateDitConfig defaults;
  std::string precision = "bf16";
  return DescribeConfig(Keys(&defaults, &precision));
}

Run MakeRun(const StateDitConfig& config, const std::string& directory) {
  Run run;
  run.loop = config;
  run.config = SerializeStateDitConfig(config);
  run.continues = [now = run.config](const std::string& begun_in) -> absl::Status {
    const std::string path = RunConfigPath(begun_in);
    const absl::StatusOr<std::string> text = ReadFile(path, kMostRunConfigBytes);
    if (absl::IsNotFound(text.status())) return absl::OkStatus();
    DS_RETURN_IF_ERROR(text.status());
    DS_ASSIGN_OR_RETURN(const StateDitConfig begun, ParseStateDitConfig(path, *text));
    return CheckSameConfig(SerializeStateDitConfig(begun), now,
                           {"/seed", "/dit", "/codec", "/data", "/tuning", "/batch"},
                           {"/data/states", "/tuning/corpus"});
  };
  run.directory = directory;
  return run;
}

}  // namespace dreamstate::training
