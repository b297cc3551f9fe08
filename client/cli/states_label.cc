// dreamstate states label
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

constexpr int kMaxTries = 5;

struct Arguments {
  std::string name;
  std::vector<std::string> add, remove;
  bool clear = false;
  absl::Duration ttl = absl::ZeroDuration();
  bool keep = false;
};

absl::Status Label(Session& session, const Arguments& arguments) {
  const bool changes_labels =
      !arguments.add.empty() || !arguments.remove.empty() || arguments.clear;
  const bool changes_ttl = arguments.keep || arguments.ttl > absl::ZeroDuration();
  if (!changes_labels && !changes_ttl) {
    return UsageError("nothing to change: name labels, or give --remove, --clear, --ttl or --keep");
  }
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const client::CallOptions call = session.Call();

  v1::UpdateStateRequest request;
  request.set_name(client::StateName(arguments.name));
  if (changes_labels) request.mutable_update_mask()->add_paths("labels");
  if (changes_ttl) request.mutable_update_mask()->add_paths("time_to_live");
  if (!arguments.keep)
    *request.mutable_annotations()->mutable_time_to_live() = ToProto(arguments.ttl);
  // Labels are changed as a whole, so somebody else's change in between (ABORTED) means looking
  // again.
  for (int attempt = 1;; ++attempt) {
    if (changes_labels) {
      const absl::StatusOr<v1::State> present = (*client)->GetState(arguments.name, call);
      if (!present.ok()) return present.status();
      std::set<std::string> labels;
      if (!arguments.clear) labels.insert(present->labels().begin(), present->labels().end());
      for (const std::string& label : arguments.remove) labels.erase(label);
      labels.insert(arguments.add.begin(), arguments.add.end());
      request.mutable_annotations()->mutable_labels()->Assign(labels.begin(), labels.end());
      request.set_etag(present->etag());
    }
    const absl::StatusOr<v1::State> updated = (*client)->UpdateState(request, call);
    if (absl::IsAborted(updated.status()) && attempt < kMaxTries) continue;
    if (!updated.ok()) return updated.status();
    if (session.output().json()) {
      session.output().Json(*updated);
    } else {
      session.output().Line(absl::StrCat(
          updated->name(),
          "  labels: ", updated->labels().empty() ? "none" : absl::StrJoin(updated->labels(), ", "),
          "; expires: ", updated->has_expires() ? ShowTime(updated->expires()) : "never"));
    }
    return absl::OkStatus();
  }
}

}  // namespace

void AddStatesLabel(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "label", "Change a state's labels and how long it is kept",
                                 "  dreamstate states label STATE favourite novel\n"
                                 "  dreamstate states label STATE --remove draft --keep\n"
                                 "  dreamstate states label STATE --ttl 30d");
  const auto a = std::make_shared<Arguments>();
  command->add_option("state", a->name, "The state's name or id")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("labels", a->add, "Labels to add")->type_name("LABEL")->check(kUtf8);
  command->add_option("--remove", a->remove, "Take this label away; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command->add_flag("--clear", a->clear, "Take all present labels away first");
  CLI::Option* ttl =
      AddDuration(*command, "--ttl", &a->ttl, "Delete the state after this long, for example 7d");
  command->add_flag("--keep", a->keep, "Keep the state until it is deleted")->excludes(ttl);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Label(s, *a); }); });
}

}  // namespace dreamstate::cli
