#include "client/cli/registry.h"

#include <map>
#include <string>

#include "client/cli/commands.h"

namespace dreamstate::cli {
namespace {

struct Row {
  const char* group;  // "" = at the top
  void (*add)(CLI::App& parent, Session& session);
};

constexpr Row kCommands[] = {
    {"models", AddModelsList},
    {"models", AddModelsShow},
    {"models", AddModelsVersions},
    {"models", AddModelsReload},
    {"models", AddModelsPin},
    {"models", AddModelsUnpin},
    {"states", AddStatesHarvest},
    {"states", AddStatesGenerate},
    {"states", AddStatesEdit},
    {"states", AddStatesList},
    {"states", AddStatesShow},
    {"states", AddStatesCompare},
    {"states", AddStatesMap},
    {"states", AddStatesLineage},
    {"states", AddStatesDownload},
    {"states", AddStatesUpload},
    {"states", AddStatesLabel},
    {"states", AddStatesMigrate},
    {"states", AddStatesRemake},
    {"states", AddStatesDelete},
    {"", AddDecode},
    {"", AddScore},
    {"", AddChat},
};

struct Group {
  const char* name;
  const char* description;
  bool bare;  // whether the group's name alone means something
};

constexpr Group kGroups[] = {
    {"models", "Which models the server knows, and which version serves (alone: list)", true},
    {"states", "Make, edit, list, look at, move, label and delete states", false},
};

}  // namespace

void AddCommands(CLI::App& app, Session& session) {
  std::map<std::string, CLI::App*> groups = {{"", &app}};
  for (const Group& group : kGroups) {
    CLI::App* const made = app.add_subcommand(group.name, group.description);
    made->fallthrough()->require_subcommand(group.bare ? 0 : 1, 1);
    groups[group.name] = made;
  }
  for (const Row& row : kCommands) row.add(*groups.at(row.group), session);
}

}  // namespace dreamstate::cli
