// Every limit and switch of the server: one struct, one table that says each option's name, unit,
// range and default once. The table makes the keys of the JSON config file (snake_case) and the
// flags (--kebab-case), the help text and --print-config. A flag overrides the file, the file
// overrides the default.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dreamstate::server {

struct Options {
  std::string listen_address = "0.0.0.0:50051";
  std::string admin_address = "0.0.0.0:9464";
  std::string port_file;
  std::string repository;
  std::vector<std::string> models;
  std::vector<std::string> follow = {"all"};
  double poll_seconds = 1;
  double max_drain_seconds = 300;
  bool admin_calls = true;
  std::string weights = "auto";
  std::string store;
  int64_t store_max_bytes = int64_t{64} << 30;
  int64_t store_cache_max_bytes = int64_t{32} << 20;
  int64_t pool_max_bytes = int64_t{256} << 20;
  int64_t prefix_pool_max_bytes = int64_t{256} << 20;
  double expiry_sweep_seconds = 60;
  int64_t threads = 0;
  int64_t diffusion_threads = 0;
  int64_t step_max_tokens = 256;
  int64_t max_sequences = 64;
  int64_t queue_limit = 256;
  int64_t prompt_max_tokens = int64_t{1} << 20;
  int64_t migrate_max_tokens = int64_t{8} << 20;
  int64_t message_max_bytes = int64_t{16} << 20;
  double reader_stall_seconds = 30;
  double stream_silence_seconds = 60;
  double drain_seconds = 30;
  bool reflection = false;
  bool error_debug_details = false;
  std::string log_level = "info";
  std::string log_format = "text";
};

// What a command line asks for.
struct CommandLine {
  enum class Action { kServe, kPrint };
  Action action = Action::kServe;
  // With kPrint: what to write to stdout (help, version, configuration).
  std::string text;
  Options options;
};

// INVALID_ARGUMENT with one line that names the flag or file and key at fault, what was expected
// and what was found; an unknown name comes with the nearest known one.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

// The options of a config file's text; `source` names it in errors. Exposed for tests.
absl::StatusOr<Options> ParseConfig(std::string_view source, std::string_view json,
                                    Options defaults);

// The effective options as JSON, one a line or (indent -1) all in one line; ParseConfig reads it
// back to the same options.
std::string PrintConfig(const Options& options, int indent = 2);

}  // namespace dreamstate::server
