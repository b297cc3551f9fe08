// dreamstate states migrate
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string name;
  std::string model;
  std::vector<std::string> labels;
  absl::Duration ttl = absl::ZeroDuration();
};

absl::Status Migrate(Session& session, const Arguments& arguments) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  v1::MigrateStateRequest request;
  request.set_name(client::StateName(arguments.name));
  request.set_model(client::ModelName(arguments.model));
  if (!arguments.labels.empty() || arguments.ttl > absl::ZeroDuration()) {
    v1::Annotations& annotations = *request.mutable_annotations();
    annotations.mutable_labels()->Assign(arguments.labels.begin(), arguments.labels.end());
    if (arguments.ttl > absl::ZeroDuration()) {
      *annotations.mutable_time_to_live() = ToProto(arguments.ttl);
    }
  }
  const absl::StatusOr<v1::State> state = (*client)->MigrateState(request, session.Call());
  if (!state.ok()) return state.status();
  if (session.output().json()) {
    session.output().Json(*state);
  } else {
    session.output().Line(absl::StrCat(
        state->name(), "  ", ShowNumber(state->token_count(), "token"), " read again on ",
        state->lineage().arguments().fields().at("model_version").string_value()));
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatesMigrate(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "migrate", "Make a state again on the backbone that serves now, from its kept tokens",
      "  dreamstate states migrate STATE\n"
      "  dreamstate states migrate STATE --model other --label moved --ttl 30d");
  const auto a = std::make_shared<Arguments>();
  command->add_option("state", a->name, "The state's name or id")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("--model", a->model, "Which model reads it; default: the one that made it")
      ->check(kUtf8);
  command
      ->add_option("--label", a->labels,
                   "Label for the new state, instead of the old one's; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8);
  AddDuration(*command, "--ttl", &a->ttl,
              "Delete the new state after this long; default: with labels, keep it");
  command->callback([&session, a] { session.Choose([a](Session& s) { return Migrate(s, *a); }); });
}

}  // namespace dreamstate::cli
