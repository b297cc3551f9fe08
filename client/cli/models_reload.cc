// dreamstate models reload
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/rejected_version.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

absl::Status Reload(Session& session, const std::string& name, bool wait) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  Output& output = session.output();
  if (wait) output.Progress(absl::StrCat("waiting until ", name, " has nothing left to load"));
  const absl::StatusOr<v1::ReloadModelResponse> reloaded =
      (*client)->ReloadModel(name, wait, session.Call());
  output.Progress("");
  if (!reloaded.ok()) return reloaded.status();
  if (output.json()) {
    output.Json(*reloaded);
  } else {
    const std::string& serving = reloaded->model().serving_version();
    output.Line(absl::StrCat(reloaded->model().name(), "  serves ",
                             serving.empty() ? "nothing yet" : serving));
    if (!reloaded->retried_versions().empty()) {
      output.Note(
          absl::StrCat("tried again: version ", absl::StrJoin(reloaded->retried_versions(), ", ")));
    }
  }
  if (!wait) return absl::OkStatus();  // nothing is decided yet
  const absl::StatusOr<std::optional<v1::ModelVersion>> rejected =
      FindRejected(**client, reloaded->model(), session.Call());
  if (!rejected.ok()) return rejected.status();
  if (!rejected->has_value()) return absl::OkStatus();
  return PartFailedError(
      absl::StrCat("version ", (*rejected)->version(), " was rejected: ", (*rejected)->reason()));
}

}  // namespace

void AddModelsReload(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "reload",
      "Look for new versions now, and give rejected ones another chance; waits until the newest "
      "serves (exit code 0) or was rejected (1)",
      "  dreamstate models reload starter\n"
      "  dreamstate models reload starter --no-wait");
  const auto name = std::make_shared<std::string>();
  const auto no_wait = std::make_shared<bool>(false);
  command->add_option("name", *name, "The model's name")->required()->check(kUtf8);
  command->add_flag("--no-wait", *no_wait, "Do not wait for what is loaded");
  command->callback([&session, name, no_wait] {
    session.Choose([=](Session& s) { return Reload(s, *name, !*no_wait); });
  });
}

}  // namespace dreamstate::cli
