// One function a command, each in the file of its name: adds the command to `parent` and, when it
// is chosen on the command line, its work to `session`.
#pragma once

#include "CLI/CLI.hpp"
#include "client/cli/session.h"

namespace dreamstate::cli {

void AddModelsList(CLI::App& parent, Session& session);
void AddModelsShow(CLI::App& parent, Session& session);
void AddModelsVersions(CLI::App& parent, Session& session);
void AddModelsReload(CLI::App& parent, Session& session);
void AddModelsPin(CLI::App& parent, Session& session);
void AddModelsUnpin(CLI::App& parent, Session& session);
void AddStatesHarvest(CLI::App& parent, Session& session);
void AddStatesList(CLI::App& parent, Session& session);
void AddStatesShow(CLI::App& parent, Session& session);
void AddStatesCompare(CLI::App& parent, Session& session);
void AddStatesMap(CLI::App& parent, Session& session);
void AddStatesLineage(CLI::App& parent, Session& session);
void AddStatesDownload(CLI::App& parent, Session& session);
void AddStatesUpload(CLI::App& parent, Session& session);
void AddStatesLabel(CLI::App& parent, Session& session);
void AddStatesMigrate(CLI::App& parent, Session& session);
void AddStatesGenerate(CLI::App& parent, Session& session);
void AddStatesEdit(CLI::App& parent, Session& session);
void AddStatesRemake(CLI::App& parent, Session& session);
void AddStatesDelete(CLI::App& parent, Session& session);
void AddDecode(CLI::App& parent, Session& session);
void AddScore(CLI::App& parent, Session& session);
void AddChat(CLI::App& parent, Session& session);

}  // namespace dreamstate::cli
