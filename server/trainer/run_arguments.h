// The flags of the commands that train.
#pragma once

#include <functional>
#include <string>

#include "CLI/CLI.hpp"

namespace dreamstate::trainer {

struct RunArguments {
  std::string config;         // a file
  std::string run;            // the run's directory
  std::string admin_address;  // of /metrics; empty = nowhere
  bool resume = false;
  bool print_config = false;  // instead of training; `config` may then be empty
};

// Adds them, and a help text of `examples` and the config's keys as `describe` tells them.
// `arguments` outlives the command.
void AddRunArguments(CLI::App& command, RunArguments* arguments, const std::string& examples,
                     const std::function<std::string()>& describe);

}  // namespace dreamstate::trainer
