// dreamstate states delete
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/names.h"
#include "client/rpc_status.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

absl::Status Delete(Session& session, const std::vector<std::string>& names) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  Output& output = session.output();
  absl::Status first_failure;
  int failures = 0;
  for (const std::string& given : names) {
    const std::string name = client::StateName(given);
    const absl::Status status = (*client)->DeleteState(name, /*etag=*/"", session.Call());
    if (ExitCodeOf(status) == kExitUnreachable || ExitCodeOf(status) == kExitInterrupted)
      return status;
    if (!status.ok()) {
      if (names.size() > 1) output.Error(absl::StrCat(name, ": ", client::Explain(status)));
      if (failures++ == 0) first_failure = status;
    } else if (output.json()) {
      output.Line(nlohmann::ordered_json({{"name", name}, {"deleted", true}}).dump());
    } else {
      output.Line(absl::StrCat(name, "  deleted"));
    }
  }
  if (failures == 0 || names.size() == 1) return first_failure;
  return PartFailedError(
      absl::StrFormat("%d of %d states could not be deleted", failures, names.size()));
}

}  // namespace

void AddStatesDelete(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "delete", "Delete states",
                                 "  dreamstate states delete STATE\n"
                                 "  dreamstate states delete STATE1 STATE2");
  const auto names = std::make_shared<std::vector<std::string>>();
  command->add_option("states", *names, "Names or ids of states")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command->callback(
      [&session, names] { session.Choose([names](Session& s) { return Delete(s, *names); }); });
}

}  // namespace dreamstate::cli
