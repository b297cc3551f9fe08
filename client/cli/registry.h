// The commands of the program.
#pragma once

#include "CLI/CLI.hpp"
#include "client/cli/session.h"

namespace dreamstate::cli {

// Adds every command to `app`. `app` and `session` must outlive parsing and running.
void AddCommands(CLI::App& app, Session& session);

}  // namespace dreamstate::cli
