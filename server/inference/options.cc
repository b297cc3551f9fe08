#include "server/inference/options.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <variant>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/address.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/nearest.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/manifest.h"
#include "server/inference/model_policy.h"

namespace dreamstate::server {
namespace {

using Json = nlohmann::ordered_json;

using Member = std::variant<std::string Options::*, std::vector<std::string> Options::*,
                            int64_t Options::*, double Options::*, bool Options::*>;

struct Option {
  const char* name;  // as in the config file
  Member member;
  const char* help;
  double min = 0;
  double max = 0;
  std::vector<std::string> choices = {};
};

constexpr double kMaxInt = 9007199254740992.0;  // 2^53: exact as a double

const std::vector<Option>& Table() {
  static const auto& table = *new std::vector<Option>{
      {"listen_address", &Options::listen_address,
       "host:port of the gRPC services; port 0 takes a free one"},
      {"admin_address", &Options::admin_address,
       "host:port of /metrics; empty switches it off, port 0 takes a free one"},
      {"port_file", &Options::port_file,
       "once listening, write the ports to this file as JSON: {\"grpc\": 50051, \"admin\": 9464}"},
      {"repository", &Options::repository, "directory of the model repository (required)"},
      {"models", &Options::models, "models to serve; empty = every model of the repository"},
      {"follow", &Options::follow,
       "which new versions are taken: all, same-backbone (those whose backbone serves already) or "
       "pinned (none but the pinned one); MODEL=MODE for one model, before or after the mode of "
       "the "
       "others"},
      {"poll_seconds", &Options::poll_seconds,
       "how often the model repository is looked into, seconds", 0.001, 86400},
      {"max_drain_seconds", &Options::max_drain_seconds,
       "how long streams may stay on a replaced version when a newer one waits for its place; then "
       "they end UNAVAILABLE, seconds",
       0, 1e7},
      {"admin_calls", &Options::admin_calls,
       "answer ReloadModel, PinModelVersion and UnpinModel; otherwise PERMISSION_DENIED"},
      {"weights",
       &Options::weights,
       "how weights are held: fp32, bf16, int8 (matrices whose measured loss allows it, the others "
       "in bf16), or auto = fp32 while a model's weights fit 64 MiB (they stay in cache), above it "
       "int8 where the model's publisher measured it, else bf16",
       0,
       0,
       {"auto", "fp32", "bf16", "int8"}},
      {"store", &Options::store, "directory of the state store (required; made when missing)"},
      {"store_max_bytes", &Options::store_max_bytes, "disk that states may take, bytes", 1 << 20,
       kMaxInt},
      {"store_cache_max_bytes", &Options::store_cache_max_bytes,
       "memory for the store's descriptions of states, bytes", 0, kMaxInt},
      {"pool_max_bytes", &Options::pool_max_bytes, "memory for the states used last, bytes", 0,
       kMaxInt},
      {"prefix_pool_max_bytes", &Options::prefix_pool_max_bytes,
       "memory for states of texts that were read, so that what begins like them is read from "
       "there "
       "on, bytes; 0 switches it off",
       0, kMaxInt},
      {"expiry_sweep_seconds", &Options::expiry_sweep_seconds,
       "how often states past their time-to-live are deleted, seconds", 0.01, 86400},
      {"threads", &Options::threads, "threads that compute; 0 = one for each processor", 0, 1024},
      {"diffusion_threads", &Options::diffusion_threads,
       "threads of state DiTs; 0 = half of those that compute, at least 1", 0, 1024},
      {"step_max_tokens", &Options::step_max_tokens,
       "tokens of one step, all sequences together; prompts are read in chunks of it", 1, 65536},
      {"max_sequences", &Options::max_sequences, "sequences that run at once", 1, 4096},
      {"queue_limit", &Options::queue_limit,
       "calls that wait for a place; more answer RESOURCE_EXHAUSTED", 1, 1000000},
      {"prompt_max_tokens", &Options::prompt_max_tokens, "tokens of one text", 1, 1 << 30},
      {"migrate_max_tokens", &Options::migrate_max_tokens,
       "tokens of states that migrate, all together", 1, 1 << 30},
      {"message_max_bytes", &Options::message_max_bytes, "size of one gRPC message, bytes", 1 << 16,
       std::numeric_limits<int32_t>::max()},
      {"reader_stall_seconds", &Options::reader_stall_seconds,
       "a call whose client reads nothing for so long is ended, seconds", 0.1, 86400},
      {"stream_silence_seconds", &Options::stream_silence_seconds,
       "a stream whose client sends nothing for so long while nothing of it runs is ended, seconds",
       0.1, 86400},
      {"drain_seconds", &Options::drain_seconds,
       "after SIGTERM calls in flight may finish for so long, seconds", 0, 86400},
      {"reflection", &Options::reflection, "serve gRPC reflection"},
      {"error_debug_details", &Options::error_debug_details,
       "send the cause of internal errors to clients"},
      {"log_level",
       &Options::log_level,
       "least severe line that is logged",
       0,
       0,
       {"debug", "info", "warning", "error"}},
      {"log_format",
       &Options::log_format,
       "log lines for people or machines, on stderr",
       0,
       0,
       {"text", "json"}},
  };
  return table;
}

std::string FlagName(std::string_view name) {
  std::string flag = StrCat("--", name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string ExpectedNumber(const Option& option, std::string_view kind) {
  return StrCat("expected ", kind, " in [", option.min, ", ", StrCat(absl::SixDigits(option.max)),
                "]");
}

// Each setter answers what was expected when the value does not fit.
std::optional<std::string> SetValue(const Option& option, std::string Options::*member,
                                    const Json& value, Options* options) {
  const auto& choices = option.choices;
  if (!value.is_string() ||
      (!choices.empty() &&
       std::find(choices.begin(), choices.end(), value.get<std::string>()) == choices.end())) {
    return choices.empty() ? "expected a string"
                           : StrCat("expected one of ", absl::StrJoin(choices, ", "));
  }
  options->*member = value.get<std::string>();
  return std::nullopt;
}

std::optional<std::string> SetValue(const Option&, std::vector<std::string> Options::*member,
                                    const Json& value, Options* options) {
  if (!value.is_array() ||
      !std::all_of(value.begin(), value.end(), [](const Json& item) { return item.is_string(); })) {
    return "expected a list of strings";
  }
  options->*member = value.get<std::vector<std::string>>();
  return std::nullopt;
}

std::optional<std::string> SetValue(const Option& option, int64_t Options::*member,
                                    const Json& value, Options* options) {
  if (!value.is_number_integer() || value.get<double>() < option.min ||
      value.get<double>() > option.max) {
    return StrCat("expected a whole number in [", static_cast<int64_t>(option.min), ", ",
                  static_cast<int64_t>(option.max), "]");
  }
  options->*member = value.get<int64_t>();
  return std::nullopt;
}

std::optional<std::string> SetValue(const Option& option, double Options::*member,
                                    const Json& value, Options* options) {
  if (!value.is_number() ||
      !(value.get<double>() >= option.min && value.get<double>() <= option.max)) {
    return ExpectedNumber(option, "a number");
  }
  options->*member = value.get<double>();
  return std::nullopt;
}

std::optional<std::string> SetValue(const Option&, bool Options::*member, const Json& value,
                                    Options* options) {
  if (!value.is_boolean()) return "expected true or false";
  options->*member = value.get<bool>();
  return std::nullopt;
}

absl::Status Apply(std::string_view source, const Option& option, const Json& value,
                   Options* options) {
  const std::optional<std::string> expected = std::visit(
      [&](auto member) { return SetValue(option, member, value, options); }, option.member);
  if (!expected) return absl::OkStatus();
  constexpr size_t kMaxShown = 80;
  return absl::InvalidArgumentError(
      StrCat(source, ": ", *expected, ", found ",
             value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, kMaxShown)));
}

// What a flag's text means for its option; text that is no number stays text, for Apply to refuse.
Json FlagValue(const Option& option, const std::vector<std::string>& texts) {
  const std::string& text = texts.back();
  if (std::holds_alternative<std::vector<std::string> Options::*>(option.member)) {
    Json list = Json::array();
    for (const std::string& each : texts) {
      for (absl::string_view part : absl::StrSplit(each, ',', absl::SkipWhitespace())) {
        list.push_back(std::string(absl::StripAsciiWhitespace(part)));
      }
    }
    return list;
  }
  if (std::holds_alternative<int64_t Options::*>(option.member)) {
    if (int64_t number; absl::SimpleAtoi(text, &number)) return number;
  } else if (std::holds_alternative<double Options::*>(option.member)) {
    if (double number; absl::SimpleAtod(text, &number)) return number;
  } else if (std::holds_alternative<bool Options::*>(option.member)) {
    if (text == "true" || text == "false") return text == "true";
  }
  return text;
}

std::string DefaultText(const Option& option) {
  const Options defaults;
  return std::visit(
      [&](auto member) {
        const Json value = defaults.*member;
        if (value.is_string()) return value.get<std::string>();
        return value.is_array() ? std::string() : value.dump();
      },
      option.member);
}

std::string TypeText(const Option& option) {
  if (!option.choices.empty()) return absl::StrJoin(option.choices, "|");
  static constexpr const char* kTypes[] = {"TEXT", "NAME,...", "N", "X", "[true|false]"};
  return kTypes[option.member.index()];
}

constexpr char kFooter[] =
    "Examples:\n"
    "  dreamstate-server --repository models --store states\n"
    "  dreamstate-server --config server.json --listen-address 127.0.0.1:0 --port-file ports.json\n"
    "  dreamstate-server --config server.json --threads 8 --print-config\n"
    "\n"
    "A config file is a JSON object with the same names in snake_case: {\"repository\": "
    "\"models\", \"threads\": 8}.\n"
    "SIGTERM or SIGINT drains and exits; a second one exits at once.\n"
    "DREAMSTATE_CPU_ISA=reference|avx2|avx512|avx512vnni|avx512bf16|amx limits the instruction "
    "set.\n"
    "\n"
    "Exit codes: 0 drained and ended; 1 could not run (address taken, no repository, store held by "
    "another process);\n"
    "            2 bad flag or config file; 3 ended by a second signal.\n";

// What no single value can say.
absl::Status CheckTogether(const Options& options) {
  DS_RETURN_IF_ERROR(CheckAddress("--listen-address", options.listen_address));
  if (!options.admin_address.empty()) {
    DS_RETURN_IF_ERROR(CheckAddress("--admin-address", options.admin_address));
  }
  if (options.repository.empty()) {
    return absl::InvalidArgumentError("--repository: a model repository's directory is required");
  }
  if (options.store.empty()) {
    return absl::InvalidArgumentError("--store: a state store's directory is required");
  }
  if (options.step_max_tokens < options.max_sequences) {
    return absl::InvalidArgumentError(
        StrCat("--step-max-tokens: expected at least --max-sequences (", options.max_sequences,
               "), since a step takes a token of every sequence; found ", options.step_max_tokens));
  }
  for (const std::string& model : options.models) {
    if (const absl::Status valid = repository::ValidateModelName(model); !valid.ok()) {
      return absl::InvalidArgumentError(
          StrCat("--models: ", model.substr(0, 80), ": ", StdView(valid.message())));
    }
  }
  std::set<std::string> followed;  // "" = the others
  for (const std::string& entry : options.follow) {
    const size_t equals = entry.find('=');
    const absl::Status named = equals == std::string::npos
                                   ? absl::OkStatus()
                                   : repository::ValidateModelName(entry.substr(0, equals));
    const absl::Status mode =
        ParseFollowMode(equals == std::string::npos ? entry : entry.substr(equals + 1)).status();
    const absl::Status& wrong = named.ok() ? mode : named;
    if (!wrong.ok()) {
      return absl::InvalidArgumentError(
          StrCat("--follow: ", entry.substr(0, 80), ": ", StdView(wrong.message())));
    }
    const std::string model = equals == std::string::npos ? "" : entry.substr(0, equals);
    if (!followed.insert(model).second) {
      return absl::InvalidArgumentError(StrCat(
          "--follow: ", entry.substr(0, 80), ": expected one mode for ",
          model.empty() ? "all models that are not named" : model, ", found another before"));
    }
    if (!model.empty() && !options.models.empty() &&
        std::find(options.models.begin(), options.models.end(), model) == options.models.end()) {
      return absl::InvalidArgumentError(StrCat("--follow: ", entry.substr(0, 80),
                                               ": expected a model of --models, found ", model));
    }
  }
  return absl::OkStatus();
}

absl::Status FlagError(const CLI::App& app, const CLI::ParseError& error, int argc,
                       const char* const* argv, std::span<const std::string> known) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") break;
    if (argument.substr(0, 1) != "-") continue;
    const std::string name(argument.substr(0, argument.find('=')));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::InvalidArgumentError(
          StrCat("unknown flag ", name, "; did you mean ", Nearest(name, known), "?"));
    }
  }
  std::string line = error.what();
  std::replace(line.begin(), line.end(), '\n', ' ');
  return absl::InvalidArgumentError(line);
}

}  // namespace

absl::StatusOr<Options> ParseConfig(std::string_view source, std::string_view json,
                                    Options defaults) {
  // Options are values and lists of them; printing deeper nesting in an error would exhaust the
  // stack.
  constexpr int kDeepest = 3;
  DS_ASSIGN_OR_RETURN(const Json document, ParseJsonObject<Json>(source, json, kDeepest));
  std::vector<std::string> names;
  for (const Option& option : Table()) names.push_back(option.name);
  for (const auto& [key, value] : document.items()) {
    const auto option =
        std::find_if(Table().begin(), Table().end(),
                     [&, k = std::string_view(key)](const Option& o) { return k == o.name; });
    if (option == Table().end()) {
      return absl::InvalidArgumentError(StrCat(source, ": unknown key \"", key.substr(0, 64),
                                               "\"; did you mean \"", Nearest(key, names), "\"?"));
    }
    DS_RETURN_IF_ERROR(Apply(StrCat(source, ": ", key), *option, value, &defaults));
  }
  return defaults;
}

std::string PrintConfig(const Options& options, int indent) {
  Json document = Json::object();
  for (const Option& option : Table()) {
    std::visit([&](auto member) { document[option.name] = options.*member; }, option.member);
  }
  return document.dump(indent, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app(
      "Serves the states of RWKV-7 models over gRPC: harvest, keep, branch, decode, score.",
      "dreamstate-server");
  app.footer(kFooter);
  app.set_help_flag("-h,--help", "Print this and exit");
  std::string config_file;
  bool print_config = false, print_version = false;
  app.add_option("--config", config_file, "JSON config file")->type_name("FILE");
  app.add_flag("--print-config", print_config,
               "Print the effective configuration as JSON and exit");
  app.add_flag("--version", print_version, "Print the version and exit");
  std::vector<std::string> known = {"--config", "--print-config", "--version", "--help", "-h"};
  std::map<std::string_view, std::vector<std::string>> given;
  for (const Option& option : Table()) {
    known.push_back(FlagName(option.name));
    auto* flag = app.add_option(known.back(), given[option.name], option.help);
    flag->type_name(TypeText(option));
    flag->allow_extra_args(false);
    if (std::holds_alternative<bool Options::*>(option.member)) {
      flag->expected(0, 1);  // "--reflection" alone means true
    } else {
      flag->expected(1);
      if (const std::string text = DefaultText(option); !text.empty()) flag->default_str(text);
    }
    flag->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  CommandLine command;
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    command.action = CommandLine::Action::kPrint;
    command.text = app.help();
    return command;
  } catch (const CLI::ParseError& error) {
    return FlagError(app, error, argc, argv, known);
  }
  if (print_version) {
    command.action = CommandLine::Action::kPrint;
    command.text = "dreamstate-server " DREAMSTATE_VERSION "\n";
    return command;
  }
  if (!config_file.empty()) {
    constexpr size_t kMaxConfigBytes = 1 << 20;
    const absl::StatusOr<std::string> text = ReadFile(config_file, kMaxConfigBytes);
    if (!text.ok()) {
      return absl::InvalidArgumentError(StrCat("--config: ", text.status().message()));
    }
    DS_ASSIGN_OR_RETURN(command.options, ParseConfig(config_file, *text, Options()));
  }
  for (const Option& option : Table()) {
    const std::string flag = FlagName(option.name);
    if (app.count(flag) == 0) continue;
    std::vector<std::string> texts = given[option.name];
    if (texts.empty() || (texts.size() == 1 && texts[0].empty() &&
                          std::holds_alternative<bool Options::*>(option.member))) {
      texts = {"true"};
    }
    DS_RETURN_IF_ERROR(Apply(flag, option, FlagValue(option, texts), &command.options));
  }
  if (print_config) {
    command.action = CommandLine::Action::kPrint;
    command.text = PrintConfig(command.options) + "\n";
    return command;
  }
  DS_RETURN_IF_ERROR(CheckTogether(command.options));
  return command;
}

}  // namespace dreamstate::server
