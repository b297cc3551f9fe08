#include "core/training/config_keys.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/base/nearest.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

using Json = nlohmann::ordered_json;

std::string Found(const Json& value) {
  constexpr size_t kMost = 60;
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

template <typename T>
ConfigKey Whole(std::string name, T* value, int64_t least, int64_t most, std::string help) {
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

}  // namespace

ConfigKey NumberKey(std::string name, double* value, double least, double most, std::string help) {
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

ConfigKey SeedKey(std::string name, uint64_t* value, std::string help) {
  return {std::move(name), "a whole number from 0 to 2^64 - 1", std::move(help),
          [=](const Json& json) {
            if (!json.is_number_unsigned()) return false;
            *value = json.get<uint64_t>();
            return true;
          },
          [=] { return Json(*value); }};
}

ConfigKey FlagKey(std::string name, bool* value, std::string help) {
  return {std::move(name), "true or false", std::move(help),
          [=](const Json& json) {
            if (!json.is_boolean()) return false;
            *value = json.get<bool>();
            return true;
          },
          [=] { return Json(*value); }};
}

ConfigKey TextKey(std::string name, std::string* value, std::vector<std::string> choices,
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

ConfigKey WholeKey(std::string name, int* value, int64_t least, int64_t most, std::string help) {
  return Whole(std::move(name), value, least, most, std::move(help));
}
ConfigKey WholeKey(std::string name, int64_t* value, int64_t least, int64_t most,
                   std::string help) {
  return Whole(std::move(name), value, least, most, std::move(help));
}

std::vector<ConfigKey> LoopKeys(LoopConfig* config) {
  return {
      WholeKey("steps", &config->schedule.steps, 1, kManySteps, "steps of the optimiser in all"),
      NumberKey("divergence_nats", &config->divergence_nats, 0, kLargeNumber,
                "the run ends when the loss is so far above its smoothed value; 0 = never"),
      WholeKey("log_every_steps", &config->log_every_steps, 1, kManySteps,
               "steps of a line in the log")};
}

std::vector<ConfigKey> ScheduleKeys(Schedule* schedule) {
  return {NumberKey("lr", &schedule->lr, 1e-12, 1e3, "learning rate after the warm-up"),
          NumberKey("lr_final", &schedule->lr_final, 0, 1e3, "at the last step, by a cosine"),
          WholeKey("warmup_steps", &schedule->warmup_steps, 0, kManySteps, "steps up to lr")};
}

std::vector<ConfigKey> OptimiserKeys(OptimiserOptions* optimiser) {
  return {NumberKey("weight_decay", &optimiser->weight_decay, 0, 10, "of matrices"),
          NumberKey("beta1", &optimiser->beta1, 0, 0.999999, "of AdamW"),
          NumberKey("beta2", &optimiser->beta2, 0, 0.999999, "of AdamW"),
          NumberKey("eps", &optimiser->eps, 1e-30, 1, "of AdamW"),
          NumberKey("clip", &optimiser->clip, 0, kLargeNumber,
                    "largest norm of the gradient; 0 = any")};
}

std::vector<ConfigKey> CheckpointKeys(CheckpointConfig* checkpoint) {
  return {
      NumberKey("every_minutes", &checkpoint->every_minutes, 0, kLargeNumber, "0 = not by time"),
      WholeKey("every_steps", &checkpoint->every_steps, 0, kManySteps, "0 = not by steps"),
      WholeKey("keep", &checkpoint->keep, 1, 1000, "newest checkpoints that stay")};
}

std::vector<ConfigKey> PublishKeys(PublishConfig* publish) {
  return {TextKey("repository", &publish->repository, {},
                  "model repository, made when missing; none = nothing is published"),
          TextKey("model", &publish->model, {}, "name to publish under"),
          NumberKey("every_minutes", &publish->every_minutes, 0, kLargeNumber, "0 = not by time"),
          FlagKey("on_improvement", &publish->on_improvement, "when validation is the best so far"),
          FlagKey("at_end", &publish->at_end, "after the last step"),
          FlagKey("allow_losing_components", &publish->allow_losing_components,
                  "also when the model's newest version has components that this one would lack")};
}

std::vector<ConfigKey> Joined(std::vector<std::vector<ConfigKey>> lists) {
  std::vector<ConfigKey> all;
  for (std::vector<ConfigKey>& list : lists) {
    std::move(list.begin(), list.end(), std::back_inserter(all));
  }
  return all;
}

absl::Status ReadConfig(const ConfigKeys& all, std::string_view source, std::string_view text) {
  constexpr int kDeepest = 8;
  DS_ASSIGN_OR_RETURN(const Json document, ParseJsonObject<Json>(source, text, kDeepest));
  const auto read = [&](const std::vector<ConfigKey>& keys, const Json& object,
                        const std::string& prefix, std::vector<std::string> more) -> absl::Status {
    for (const auto& [name, value] : object.items()) {
      if (std::find(more.begin(), more.end(), name) != more.end()) continue;
      const ConfigKey* found = nullptr;
      for (const ConfigKey& key : keys) {
        if (key.name == name) found = &key;
      }
      if (found == nullptr) {
        std::vector<std::string> known = more;
        for (const ConfigKey& key : keys) known.push_back(key.name);
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
  for (const auto& [section, keys] : all) {
    if (!section.empty()) names.push_back(section);
  }
  for (const auto& [section, keys] : all) {
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
  return absl::OkStatus();
}

std::string WriteConfig(const ConfigKeys& all) {
  Json document = Json::object();
  for (const auto& [section, keys] : all) {
    Json& object = section.empty() ? document : document[section];
    for (const ConfigKey& key : keys) object[key.name] = key.write();
  }
  return document.dump(2) + "\n";
}

std::string DescribeConfig(const ConfigKeys& all) {
  std::string text;
  for (const auto& [section, keys] : all) {
    for (const ConfigKey& key : keys) {
      const std::string name = section.empty() ? key.name : StrCat(section, ".", key.name);
      absl::StrAppendFormat(&text, "  %-28s %-14s %s\n", name, key.write().dump(), key.help);
      absl::StrAppendFormat(&text, "  %-28s %-14s %s\n", "", "", key.accepts);
    }
  }
  return text;
}

absl::Status CheckSameConfig(const std::string& begun, const std::string& now,
                             const std::vector<std::string>& keys,
                             const std::vector<std::string>& but) {
  const Json before = Json::parse(begun), after = Json::parse(now);
  const auto compare = [&](const std::string& pointer) -> absl::Status {
    const Json::json_pointer key(pointer);
    if (std::find(but.begin(), but.end(), pointer) != but.end() ||
        before.at(key) == after.at(key)) {
      return absl::OkStatus();
    }
    std::string name = pointer.substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    return absl::InvalidArgumentError(StrCat(name, ": expected ", Found(before.at(key)),
                                             " as the run began with, found ",
                                             Found(after.at(key))));
  };
  for (const std::string& key : keys) {
    const Json& value = before.at(Json::json_pointer(key));
    if (!value.is_object()) {
      DS_RETURN_IF_ERROR(compare(key));
      continue;
    }
    for (const auto& [name, part] : value.items()) {
      DS_RETURN_IF_ERROR(compare(StrCat(key, "/", name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::training
