#pragma once

#include "server/trainer/command.h"

namespace dreamstate::trainer {

// evaluate states: a data set of states is described.
Command MakeEvaluateStatesCommand(CLI::App& evaluate);

}  // namespace dreamstate::trainer
