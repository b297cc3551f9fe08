// The commands of dreamstate-trainer: one a file, and one line in main.cc.
#pragma once

#include <functional>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace dreamstate::trainer {

struct Command {
  const CLI::App* app;                // parsed when the command was chosen
  std::function<absl::Status()> run;  // prints its result; an error is printed by main
};

// import: a file of another engine becomes a published bundle.
Command MakeImportCommand(CLI::App& app);
// collect: a repository keeps the newest versions of its models.
Command MakeCollectCommand(CLI::App& app);
// train: a config file in, a run directory and published versions out.
Command MakeTrainCommand(CLI::App& app);
// corpus: folders of files become a corpus to train on.
Command MakeCorpusCommand(CLI::App& app);
// harvest: texts' states become a data set.
Command MakeHarvestCommand(CLI::App& app);
// state-dit: a data set of states becomes a published generator of them.
Command MakeStateDitCommand(CLI::App& app);
// calibrate: a published generator gets its safety gate.
Command MakeCalibrateCommand(CLI::App& app);
// evaluate: a model, or a data set of its states, is measured.
Command MakeEvaluateCommand(CLI::App& app);

}  // namespace dreamstate::trainer
