// dreamstate states delete
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/line_reader.h"
#include "client/names.h"
#include "client/rpc_status.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::vector<std::string> names;
  // The filter.
  std::string model, parent, fingerprint;
  std::vector<std::string> labels;
  std::optional<absl::Duration> older_than;
  bool all = false;

  bool dry_run = false;
  bool yes = false;

  bool HasFilter() const {
    return !model.empty() || !parent.empty() || !fingerprint.empty() || !labels.empty() ||
           older_than.has_value() || all;
  }
};

absl::Status DeleteNamed(Session& session, const std::vector<std::string>& names) {
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

v1::DeleteStatesRequest FilterOf(const Arguments& arguments) {
  v1::DeleteStatesRequest filter;
  filter.set_model(client::ModelName(arguments.model));
  filter.set_parent(client::StateName(arguments.parent));
  filter.set_backbone_fingerprint(arguments.fingerprint);
  for (const std::string& label : arguments.labels) filter.add_labels(label);
  if (arguments.older_than) {
    const absl::Time before = absl::Now() - *arguments.older_than;
    filter.mutable_created_before()->set_seconds(absl::ToUnixSeconds(before));
  }
  filter.set_all(arguments.all);
  return filter;
}

std::string Counted(const v1::DeleteStatesResponse& found) {
  return absl::StrCat(ShowNumber(found.states(), "state"), ", ", ShowBytes(found.bytes()));
}

// The answer's fields, and whether it was a rehearsal.
std::string Json(const v1::DeleteStatesResponse& answer, bool dry_run) {
  nlohmann::ordered_json line =
      nlohmann::ordered_json::parse(ToJson(answer), nullptr, /*allow_exceptions=*/false);
  line["dryRun"] = dry_run;
  return line.dump();
}

// Asks at the terminal.
absl::StatusOr<bool> Confirm(Session& session, const v1::DeleteStatesResponse& found) {
  constexpr int kShown = 5;
  for (int i = 0; i < found.sample_size() && i < kShown; ++i)
    session.output().Note(found.sample(i));
  if (found.states() > kShown)
    session.output().Note(absl::StrCat("and ", found.states() - kShown, " more"));
  LineReader lines(session.interrupts());
  absl::StatusOr<std::optional<std::string>> line =
      lines.Next(absl::StrCat("Delete ", Counted(found), "? [y/N] "));
  if (!line.ok()) return line.status();
  const std::string answer =
      line->has_value() ? absl::AsciiStrToLower(absl::StripAsciiWhitespace(**line)) : "";
  return answer == "y" || answer == "yes";
}

absl::Status DeleteFiltered(Session& session, const Arguments& arguments) {
  const bool interactive = isatty(STDIN_FILENO) == 1;
  if (!arguments.dry_run && !arguments.yes && !interactive) {
    return UsageError(
        "a filter may fit more than you think: --dry-run shows what, --yes deletes it");
  }
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  Output& output = session.output();
  v1::DeleteStatesRequest filter = FilterOf(arguments);
  if (arguments.dry_run || !arguments.yes) {
    filter.set_dry_run(true);
    const absl::StatusOr<v1::DeleteStatesResponse> found =
        (*client)->DeleteStates(filter, session.Call());
    if (!found.ok()) return found.status();
    if (arguments.dry_run) {
      if (output.json()) {
        output.Line(Json(*found, /*dry_run=*/true));
        return absl::OkStatus();
      }
      for (const std::string& name : found->sample()) output.Line(name);
      output.Note(
          absl::StrCat(Counted(*found), " would be deleted",
                       found->states() > found->sample_size() ? "; not all are named" : ""));
      return absl::OkStatus();
    }
    if (found->states() == 0) {
      output.Note("no states");
      return absl::OkStatus();
    }
    const absl::StatusOr<bool> confirmed = Confirm(session, *found);
    if (!confirmed.ok()) return confirmed.status();
    if (!*confirmed) {
      output.Note("nothing was deleted");
      return absl::OkStatus();
    }
    filter.set_dry_run(false);
  }
  const absl::StatusOr<v1::DeleteStatesResponse> deleted =
      (*client)->DeleteStates(filter, session.Call());
  if (!deleted.ok()) return deleted.status();
  if (output.json()) {
    output.Line(Json(*deleted, /*dry_run=*/false));
  } else {
    output.Line(absl::StrCat(Counted(*deleted), " deleted"));
  }
  return absl::OkStatus();
}

absl::Status Delete(Session& session, const Arguments& arguments) {
  if (arguments.HasFilter()) {
    if (arguments.names.empty()) return DeleteFiltered(session, arguments);
    return UsageError("name states, or say with flags which ones to delete; not both");
  }
  if (arguments.names.empty()) {
    return UsageError("nothing to delete: name states, or say with flags which ones; --all is all");
  }
  if (arguments.dry_run) return UsageError("--dry-run is for flags that fit many states");
  return DeleteNamed(session, arguments.names);
}

}  // namespace

void AddStatesDelete(CLI::App& parent, Session& session) {
  CLI::App* command =
      AddCommand(parent, "delete", "Delete states by name, or all that fit a filter",
                 "  dreamstate states delete STATE1 STATE2\n"
                 "  dreamstate states delete --label draft --older-than 7d --dry-run\n"
                 "  dreamstate states delete --label draft --older-than 7d\n"
                 "  dreamstate states delete --all --yes\n"
                 "\n"
                 "A state goes when it fits all flags that are given. States made from it stay.");
  const auto a = std::make_shared<Arguments>();
  const std::string group = "Filter";
  command->add_option("states", a->names, "Names or ids of states")
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("--label", a->labels, "States with this label; repeated: with all of them")
      ->allow_extra_args(false)
      ->check(kUtf8)
      ->group(group);
  command->add_option("--model", a->model, "States of this model")->check(kUtf8)->group(group);
  command->add_option("--parent", a->parent, "States made directly from this one")
      ->type_name("STATE")
      ->check(kUtf8)
      ->group(group);
  command
      ->add_option("--fingerprint", a->fingerprint, "States of the backbone with this fingerprint")
      ->check(kUtf8)
      ->group(group);
  command
      ->add_option_function<std::string>(
          "--older-than",
          [a](const std::string& text) {
            const absl::StatusOr<absl::Duration> parsed = ParseDuration(text);
            if (!parsed.ok())
              throw CLI::ValidationError("--older-than", std::string(parsed.status().message()));
            a->older_than = *parsed;
          },
          "States made longer ago than this, for example 7d")
      ->type_name("DURATION")
      ->group(group);
  command->add_flag("--all", a->all, "Every state")->group(group);
  command->add_flag("--dry-run", a->dry_run, "Delete nothing, show what a filter fits");
  command->add_flag("-y,--yes", a->yes, "Delete what a filter fits without asking");
  command->callback([&session, a] { session.Choose([a](Session& s) { return Delete(s, *a); }); });
}

}  // namespace dreamstate::cli
