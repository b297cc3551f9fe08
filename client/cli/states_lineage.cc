// dreamstate states lineage
#include <memory>
#include <string>

#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/lineage_graph.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string name;
  int up = 100, down = 100;
  bool dot = false;
};

absl::Status Lineage(Session& session, const Arguments& arguments) {
  Output& output = session.output();
  if (arguments.dot && output.json()) return UsageError("--dot and --json: choose one");
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  v1::GetLineageRequest request;
  request.set_name(client::StateName(arguments.name));
  request.set_ancestor_generations(arguments.up);
  request.set_descendant_generations(arguments.down);
  const absl::StatusOr<v1::GetLineageResponse> lineage =
      (*client)->GetLineage(request, session.Call());
  if (!lineage.ok()) return lineage.status();
  if (output.json()) {
    output.Json(*lineage);
  } else {
    for (const std::string& line : arguments.dot ? LineageDot(*lineage) : LineageTree(*lineage))
      output.Line(line);
  }
  if (lineage->truncated()) output.Note("there is more; --up and --down say how far to look");
  return absl::OkStatus();
}

}  // namespace

void AddStatesLineage(CLI::App& parent, Session& session) {
  CLI::App* command =
      AddCommand(parent, "lineage", "Show what a state was made from, and what was made from it",
                 "  dreamstate states lineage STATE\n"
                 "  dreamstate states lineage STATE --up 3 --down 0\n"
                 "  dreamstate states lineage STATE --dot | dot -Tsvg > lineage.svg\n"
                 "\n"
                 "In the tree each state stands below the one that it was made from: * is the one\n"
                 "asked for, x one that was deleted.");
  const auto a = std::make_shared<Arguments>();
  command->add_option("state", a->name, "The state's name or id; a deleted one's, too")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("--up", a->up, "Generations to look back, 1 to 1000")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--down", a->down, "Generations to look forward, 0 to 1000")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command->add_flag("--dot", a->dot, "Print the graph in Graphviz' language");
  command->callback([&session, a] { session.Choose([a](Session& s) { return Lineage(s, *a); }); });
}

}  // namespace dreamstate::cli
