#include "core/training/run_config.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/nearest.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

using Json = nlohmann::ordered_json;

// One key of a config.
struct Key {
  std::string name;
  std::string accepts;                    // "a number in [0, 1]"
  std::string help;                       // what it is for
  std::function<bool(const Json&)> read;  // false: not what it accepts, nothing is changed
  std::function<Json()> write;
};

Key Number(std::string name, double* value, double least, double most, std::string help) {
  return {std::move(name), StrCat("a number in [", least, ", ", most, "]"), std::move(help),
          [=](const Json& json) {
            if (!json.is_number()) return false;
            const auto number = json.get<double>();
            if (!(number >= least && number <= most)) return false;
            *value = number;
            return true;
          },
          [=] { return Json(*value); }};
}

template <typename T>
Key Whole(std::string name, T* value, int64_t least, int64_t most, std::string help) {
  return {std::move(name), StrCat("a whole number in [", least, ", ", most, "]"), std::move(help),
          [=](const Json& json) {
            if (!json.is_number_integer()) return false;
            const bool fits =
                !json.is_number_unsigned() ||
                json.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
            if (!fits || json.get<int64_t>() < least || json.get<int64_t>() > most) return false;
            *value = static_cast<T>(json.get<int64_t>());
            return true;
          },
          [=] { return Json(*value); }};
}

Key Seed(std::string name, uint64_t* value, std::string help) {
  return {std::move(name), "a whole number from 0 to 2^64 - 1", std::move(help),
          [=](const Json& json) {
            if (!json.is_number_unsigned()) return false;
            *value = json.get<uint64_t>();
            return true;
          },
          [=] { return Json(*value); }};
}

Key Flag(std::string name, bool* value, std::string help) {
  return {std::move(name), "true or false", std::move(help),
          [=](const Json& json) {
            if (!json.is_boolean()) return false;
            *value = json.get<bool>();
            return true;
          },
          [=] { return Json(*value); }};
}

// No choices: any text.
Key Text(std::string name, std::string* value, const std::vector<std::string>& choices,
         std::string help) {
  return {
      std::move(name), choices.empty() ? "a text" : StrCat("one of ", absl::StrJoin(choices, ", ")),
      std::move(help),
      [=](const Json& json) {
        if (!json.is_string()) return false;
        const auto text = json.get<std::string>();
        if (!choices.empty() && std::find(choices.begin(), choices.end(), text) == choices.end()) {
          return false;
        }
        *value = text;
        return true;
      },
      [=] { return Json(*value); }};
}

constexpr int64_t kMany = int64_t{1} << 40;
constexpr double kLarge = 1e12;

// The keys of a config, by section; "" is the top.
std::vector<std::pair<std::string, std::vector<Key>>> Keys(RunConfig* c, std::string* mode,
                                                           std::string* precision) {
  StateReadyOptions& ready = c->data.state_ready;
  TaskOptions& task = c->data.task;
  return {
      {"",
       {Text("mode", mode, {"full", "state-tuning"},
             "all parameters, or one initial state a label for the frozen model of init"),
        Text("init", &c->init, {},
             "checkpoint to begin from, a file that import reads; its sizes replace model's"),
        Whole("steps", &c->schedule.steps, 1, kMany, "steps of the optimiser in all"),
        Text("precision", precision, {"bf16", "fp32"},
             "of matrix products; bf16 where the device has it, masters are fp32"),
        Text("device", &c->device, {"cpu", "cuda"}, "cuda needs a build with the preset cuda"),
        Whole("threads", &c->threads, 0, 1024, "0 = one for each processor"),
        Seed("seed", &c->seed, "of parameters and data"),
        Number("divergence_nats", &c->divergence_nats, 0, kLarge,
               "the run ends when the loss is so far above its smoothed value; 0 = never"),
        Whole("log_every_steps", &c->log_every_steps, 1, kMany, "steps of a line in the log")}},
      {"model",
       {Whole("vocab", &c->model.vocab, 2, 65536, "256 for bytes, 65536 for World tokens"),
        Whole("layers", &c->model.layers, 1, 256, "blocks"),
        Whole("width", &c->model.width, 16, 65536, "channels, a multiple of head_size"),
        Whole("head_size", &c->model.head_size, 16, 128, "channels of a head"),
        Whole("ffn_width", &c->model.ffn_width, 0, 1 << 20, "0 = 4 x width"),
        Whole("rank_decay", &c->model.rank_decay, 0, 1 << 16,
              "of the low-rank decay; 0 = from width, so are the next three"),
        Whole("rank_iclr", &c->model.rank_iclr, 0, 1 << 16, "of the in-context learning rate"),
        Whole("rank_value", &c->model.rank_value, 0, 1 << 16, "of the value residual"),
        Whole("rank_gate", &c->model.rank_gate, 0, 1 << 16, "of the output gate")}},
      {"data",
       {Text("source", &c->data.source, {"state-ready", "uniform", "rwkv-lm", "task"},
             "windows that begin from states of all kinds, windows from anywhere, the official "
             "order, or a task"),
        Text("corpus", &c->data.corpus, {}, "directory that dreamstate-trainer corpus made"),
        Number("packed_share", &ready.packed_share, 0, 1,
               "state-ready: rows of several excerpts of one label"),
        Whole("excerpt_min_tokens", &ready.excerpt_min_tokens, 1, 1 << 20,
              "state-ready: shortest excerpt"),
        Whole("excerpt_max_tokens", &ready.excerpt_max_tokens, 1, 1 << 20,
              "state-ready: longest excerpt"),
        Number("document_start_share", &ready.document_start_share, 0, 1,
               "state-ready: excerpts from a document's first token"),
        Number("own_share", &ready.own_share, 0, 1,
               "state-ready: rows that begin where their document left off"),
        Number("foreign_share", &ready.foreign_share, 0, 1,
               "state-ready: rows that begin from another document's state of the label"),
        Number("class_mean_share", &ready.class_mean_share, 0, 1,
               "state-ready: rows that begin from a mean of the label's states"),
        Whole("mean_states", &ready.mean_states, 2, 4096, "state-ready: most states of a mean"),
        Number("separator_first_share", &ready.separator_first_share, 0, 1,
               "state-ready: rows that read the separator first"),
        Number("keep_share", &ready.keep_share, 0, 1,
               "state-ready: rows whose last state is kept for others"),
        Whole("slots_per_label", &ready.slots_per_label, 1, 4096,
              "state-ready: states kept of a label"),
        Text("task", &task.task, {"reversal", "parity", "mqar"}, "task: which"),
        Whole("digits", &task.digits, 1, 1 << 16, "reversal: longest number"),
        Whole("pairs", &task.pairs, 1, 1 << 16, "mqar: most pairs of key and value"),
        Whole("task_vocab", &task.vocab, 4, 65536, "mqar: half keys, half values"),
        Whole("length", &task.length, 1, 1 << 16, "parity: most bits")}},
      {"batch",
       {Whole("rows", &c->batch.rows, 1, 1 << 16, "windows a step, of all ranks together"),
        Whole("tokens", &c->batch.tokens, 1, 1 << 20, "of a window"),
        Whole("micro_batch_rows", &c->micro_batch_rows, 0, 1 << 16,
              "windows computed at once, for less memory; 0 = all of a rank's")}},
      {"optimiser",
       {Number("lr", &c->schedule.lr, 1e-12, 1e3, "learning rate after the warm-up"),
        Number("lr_final", &c->schedule.lr_final, 0, 1e3, "at the last step, by a cosine"),
        Whole("warmup_steps", &c->schedule.warmup_steps, 0, kMany, "steps up to lr"),
        Number("weight_decay", &c->optimiser.weight_decay, 0, 10, "of matrices"),
        Number("beta1", &c->optimiser.beta1, 0, 0.999999, "of AdamW"),
        Number("beta2", &c->optimiser.beta2, 0, 0.999999, "of AdamW"),
        Number("eps", &c->optimiser.eps, 1e-30, 1, "of AdamW"),
        Number("clip", &c->optimiser.clip, 0, kLarge, "largest norm of the gradient; 0 = any")}},
      {"checkpoint",
       {Number("every_minutes", &c->checkpoint.every_minutes, 0, kLarge, "0 = not by time"),
        Whole("every_steps", &c->checkpoint.every_steps, 0, kMany, "0 = not by steps"),
        Whole("keep", &c->checkpoint.keep, 1, 1000, "newest checkpoints that stay")}},
      {"validation",
       {Whole("every_steps", &c->validation.every_steps, 0, kMany, "0 = never"),
        Whole("windows_per_label", &c->validation.windows_per_label, 1, 10000,
              "of documents that are not trained on"),
        Whole("tokens", &c->validation.tokens, 1, 1 << 20, "of such a window"),
        Whole("task_batches", &c->validation.task_batches, 1, 10000, "task: held-out batches")}},
      {"publish",
       {Text("repository", &c->publish.repository, {},
             "model repository, made when missing; none = nothing is published"),
        Text("model", &c->publish.model, {}, "name to publish under"),
        Number("every_minutes", &c->publish.every_minutes, 0, kLarge, "0 = not by time"),
        Flag("on_improvement", &c->publish.on_improvement, "when validation is the best so far"),
        Flag("at_end", &c->publish.at_end, "after the last step"),
        Flag("allow_losing_components", &c->publish.allow_losing_components,
             "also when the model's newest version has components that this one would lack")}},
  };
}

std::string Found(const Json& value) {
  constexpr size_t kMost = 60;
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
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
  constexpr int kDeepest = 8;
  DS_ASSIGN_OR_RETURN(const Json document, ParseJsonObject<Json>(source, text, kDeepest));
  RunConfig config;
  std::string mode = "full", precision = "bf16";
  const auto sections = Keys(&config, &mode, &precision);
  const auto read = [&](const std::vector<Key>& keys, const Json& object, const std::string& prefix,
                        std::vector<std::string> more) -> absl::Status {
    for (const auto& [name, value] : object.items()) {
      if (std::find(more.begin(), more.end(), name) != more.end()) continue;
      const Key* found = nullptr;
      for (const Key& key : keys) {
        if (key.name == name) found = &key;
      }
      if (found == nullptr) {
        std::vector<std::string> known = more;
        for (const Key& key : keys) known.push_back(key.name);
        return absl::InvalidArgumentError(StrCat(source, ": unknown key \"", prefix,
                                                 name.substr(0, 64), "\"; did you mean \"", prefix,
                                                 Nearest(name, known), "\"?"));
      }
      if (!found->read(value)) {
        return absl::InvalidArgumentError(StrCat(source, ": ", prefix, name, ": expected ",
                                                 found->accepts, ", found ", Found(value)));
      }
    }
    return absl::OkStatus();
  };
  std::vector<std::string> names;
  for (const auto& [section, keys] : sections) {
    if (!section.empty()) names.push_back(section);
  }
  for (const auto& [section, keys] : sections) {
    if (section.empty()) {
      DS_RETURN_IF_ERROR(read(keys, document, "", names));
      continue;
    }
    if (!document.contains(section)) continue;
    if (!document.at(section).is_object()) {
      return absl::InvalidArgumentError(StrCat(
          source, ": ", section, ": expected an object, found ", Found(document.at(section))));
    }
    DS_RETURN_IF_ERROR(read(keys, document.at(section), section + ".", {}));
  }
  config.mode = mode == "full" ? TrainingMode::kFull : TrainingMode::kStateTuning;
  config.bf16 = precision == "bf16";
  DS_RETURN_IF_ERROR(CheckTogether(source, config));
  return config;
}

std::string RunConfigPath(const std::string& run) { return run + "/config.json"; }

absl::StatusOr<RunConfig> ReadRunConfig(const std::string& run) {
  const std::string path = RunConfigPath(run);
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostRunConfigBytes));
  return ParseRunConfig(path, text);
}

std::string SerializeRunConfig(const RunConfig& config) {
  RunConfig copy = config;
  std::string mode = config.mode == TrainingMode::kFull ? "full" : "state-tuning";
  std::string precision = config.bf16 ? "bf16" : "fp32";
  Json document = Json::object();
  for (const auto& [section, keys] : Keys(&copy, &mode, &precision)) {
    Json& object = section.empty() ? document : document[section];
    for (const Key& key : keys) object[key.name] = key.write();
  }
  return document.dump(2) + "\n";
}

std::string DescribeRunConfig() {
  RunConfig defaults;
  std::string mode = "full", precision = "bf16";
  std::string text;
  for (const auto& [section, keys] : Keys(&defaults, &mode, &precision)) {
    for (const Key& key : keys) {
      const std::string name = section.empty() ? key.name : StrCat(section, ".", key.name);
      absl::StrAppendFormat(&text, "  %-28s %-14s %s\n", name, key.write().dump(), key.help);
      absl::StrAppendFormat(&text, "  %-28s %-14s %s\n", "", "", key.accepts);
    }
  }
  return text;
}

absl::Status CheckContinues(const RunConfig& begun, const RunConfig& now) {
  const Json before = Json::parse(SerializeRunConfig(begun));
  const Json after = Json::parse(SerializeRunConfig(now));
  const auto compare = [&](const Json::json_pointer& key) -> absl::Status {
    if (before.at(key) == after.at(key)) return absl::OkStatus();
    std::string name = key.to_string().substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    return absl::InvalidArgumentError(StrCat(name, ": expected ", Found(before.at(key)),
                                             " as the run began with, found ",
                                             Found(after.at(key))));
  };
  for (const char* key : {"/mode", "/seed", "/batch/rows", "/batch/tokens"}) {
    DS_RETURN_IF_ERROR(compare(Json::json_pointer(key)));
  }
  for (const char* section : {"model", "data"}) {
    for (const auto& [name, value] : before.at(section).items()) {
      if (name == "corpus") continue;
      DS_RETURN_IF_ERROR(compare(Json::json_pointer(StrCat("/", section, "/", name))));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::training
