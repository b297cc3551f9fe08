#include "core/training/run_config.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/nearest.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

using Json = nlohmann::ordered_json;

// One key: how its value is read, with what was expected when it does not fit, and written.
struct Key {
  std::string name;
  std::function<std::string(const Json&)> read;  // empty = read
  std::function<Json()> write;
};

Key Number(std::string name, double* value, double least, double most) {
  return {std::move(name),
          [=](const Json& json) -> std::string {
            if (json.is_number() && json.get<double>() >= least && json.get<double>() <= most) {
              *value = json.get<double>();
              return "";
            }
            return StrCat("expected a number in [", least, ", ", most, "]");
          },
          [=] { return Json(*value); }};
}

template <typename T>
Key Whole(std::string name, T* value, int64_t least, int64_t most) {
  return {std::move(name),
          [=](const Json& json) -> std::string {
            if (json.is_number_integer()) {
              const bool fits = !json.is_number_unsigned() ||
                                json.get<uint64_t>() <=
                                    static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
              if (fits && json.get<int64_t>() >= least && json.get<int64_t>() <= most) {
                *value = static_cast<T>(json.get<int64_t>());
                return "";
              }
            }
            return StrCat("expected a whole number in [", least, ", ", most, "]");
          },
          [=] { return Json(*value); }};
}

Key Seed(std::string name, uint64_t* value) {
  return {std::move(name),
          [=](const Json& json) -> std::string {
            if (!json.is_number_unsigned()) return "expected a whole number from 0 to 2^64 - 1";
            *value = json.get<uint64_t>();
            return "";
          },
          [=] { return Json(*value); }};
}

Key Flag(std::string name, bool* value) {
  return {std::move(name),
          [=](const Json& json) -> std::string {
            if (!json.is_boolean()) return "expected true or false";
            *value = json.get<bool>();
            return "";
          },
          [=] { return Json(*value); }};
}

Key Text(std::string name, std::string* value, std::vector<std::string> choices = {}) {
  return {std::move(name),
          [=](const Json& json) -> std::string {
            if (json.is_string()) {
              const auto text = json.get<std::string>();
              bool known = choices.empty();
              for (const std::string& choice : choices) known = known || choice == text;
              if (known) {
                *value = text;
                return "";
              }
            }
            if (choices.empty()) return "expected a text";
            std::string expected = "expected one of";
            for (const std::string& choice : choices) expected += " " + choice;
            return expected;
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
       {Text("mode", mode, {"full", "state-tuning"}), Text("init", &c->init),
        Whole("steps", &c->schedule.steps, 1, kMany),
        Text("precision", precision, {"bf16", "fp32"}), Text("device", &c->device, {"cpu", "cuda"}),
        Whole("threads", &c->threads, 0, 1024), Seed("seed", &c->seed),
        Number("divergence_nats", &c->divergence_nats, 0, kLarge),
        Whole("log_every_steps", &c->log_every_steps, 1, kMany)}},
      {"model",
       {Whole("vocab", &c->model.vocab, 2, 65536), Whole("layers", &c->model.layers, 1, 256),
        Whole("width", &c->model.width, 16, 65536),
        Whole("head_size", &c->model.head_size, 16, 128),
        Whole("ffn_width", &c->model.ffn_width, 0, 1 << 20),
        Whole("rank_decay", &c->model.rank_decay, 0, 1 << 16),
        Whole("rank_iclr", &c->model.rank_iclr, 0, 1 << 16),
        Whole("rank_value", &c->model.rank_value, 0, 1 << 16),
        Whole("rank_gate", &c->model.rank_gate, 0, 1 << 16)}},
      {"data",
       {Text("source", &c->data.source, {"state-ready", "uniform", "rwkv-lm", "task"}),
        Text("corpus", &c->data.corpus), Number("packed_share", &ready.packed_share, 0, 1),
        Whole("excerpt_min_tokens", &ready.excerpt_min_tokens, 1, 1 << 20),
        Whole("excerpt_max_tokens", &ready.excerpt_max_tokens, 1, 1 << 20),
        Number("document_start_share", &ready.document_start_share, 0, 1),
        Number("own_share", &ready.own_share, 0, 1),
        Number("foreign_share", &ready.foreign_share, 0, 1),
        Number("class_mean_share", &ready.class_mean_share, 0, 1),
        Whole("mean_states", &ready.mean_states, 2, 4096),
        Number("separator_first_share", &ready.separator_first_share, 0, 1),
        Number("keep_share", &ready.keep_share, 0, 1),
        Whole("slots_per_label", &ready.slots_per_label, 1, 4096),
        Text("task", &task.task, {"reversal", "parity", "mqar"}),
        Whole("digits", &task.digits, 1, 1 << 16), Whole("pairs", &task.pairs, 1, 1 << 16),
        Whole("task_vocab", &task.vocab, 4, 65536), Whole("length", &task.length, 1, 1 << 16)}},
      {"batch",
       {Whole("rows", &c->batch.rows, 1, 1 << 16), Whole("tokens", &c->batch.tokens, 1, 1 << 20),
        Whole("micro_batch_rows", &c->micro_batch_rows, 0, 1 << 16)}},
      {"optimiser",
       {Number("lr", &c->schedule.lr, 1e-12, 1e3),
        Number("lr_final", &c->schedule.lr_final, 0, 1e3),
        Whole("warmup_steps", &c->schedule.warmup_steps, 0, kMany),
        Number("weight_decay", &c->optimiser.weight_decay, 0, 10),
        Number("beta1", &c->optimiser.beta1, 0, 0.999999),
        Number("beta2", &c->optimiser.beta2, 0, 0.999999),
        Number("eps", &c->optimiser.eps, 1e-30, 1), Number("clip", &c->optimiser.clip, 0, kLarge)}},
      {"checkpoint",
       {Number("every_minutes", &c->checkpoint.every_minutes, 0, kLarge),
        Whole("every_steps", &c->checkpoint.every_steps, 0, kMany),
        Whole("keep", &c->checkpoint.keep, 1, 1000)}},
      {"validation",
       {Whole("every_steps", &c->validation.every_steps, 0, kMany),
        Whole("windows_per_label", &c->validation.windows_per_label, 1, 10000),
        Whole("tokens", &c->validation.tokens, 1, 1 << 20),
        Whole("task_batches", &c->validation.task_batches, 1, 10000)}},
      {"publish",
       {Text("repository", &c->publish.repository), Text("model", &c->publish.model),
        Number("every_minutes", &c->publish.every_minutes, 0, kLarge),
        Flag("on_improvement", &c->publish.on_improvement), Flag("at_end", &c->publish.at_end),
        Flag("allow_losing_components", &c->publish.allow_losing_components)}},
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
      const std::string expected = found->read(value);
      if (!expected.empty()) {
        return absl::InvalidArgumentError(
            StrCat(source, ": ", prefix, name, ": ", expected, ", found ", Found(value)));
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
