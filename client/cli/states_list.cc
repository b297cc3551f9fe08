// dreamstate states list
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string model, parent, fingerprint;
  std::vector<std::string> labels;
  bool oldest_first = false;
  uint32_t limit = 100;
};

absl::Status List(Session& session, const Arguments& arguments) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  v1::ListStatesRequest filter;
  filter.set_model(client::ModelName(arguments.model));
  filter.set_parent(client::StateName(arguments.parent));
  filter.set_backbone_fingerprint(arguments.fingerprint);
  for (const std::string& label : arguments.labels) filter.add_labels(label);
  if (arguments.oldest_first) filter.set_order(v1::ListStatesRequest::OLDEST_FIRST);
  // One more than shown, to know whether there are more.
  filter.set_page_size(static_cast<int32_t>(std::min<uint32_t>(arguments.limit, 999) + 1));
  client::Pages<v1::State> states = (*client)->States(std::move(filter), session.Call());

  Output& output = session.output();
  Table table({"STATE", "CREATED", "EXPIRES", "TOKENS", "MODEL", "MADE BY", "LABELS"},
              {false, false, false, true});
  uint32_t count = 0;
  for (; count < arguments.limit; ++count) {
    const absl::StatusOr<std::optional<v1::State>> next = states.Next();
    if (!next.ok()) return next.status();
    if (!next->has_value()) break;
    const v1::State& state = **next;
    if (output.json()) {
      output.Json(state);
    } else {
      table.Add({state.name(), ShowTime(state.created()), ShowTime(state.expires()),
                 absl::StrCat(state.token_count()), std::string(client::IdOf(state.model())),
                 state.lineage().operation(), absl::StrJoin(state.labels(), ", ")});
    }
  }
  if (count == 0) output.Note("no states");
  if (count > 0 && !output.json()) table.Print(output);
  if (count == arguments.limit) {
    const absl::StatusOr<std::optional<v1::State>> next = states.Next();
    if (next.ok() && next->has_value())
      output.Note(absl::StrCat("more than ", count, "; raise --limit to see them"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatesList(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "list", "List states, newest first",
                                 "  dreamstate states list --label library\n"
                                 "  dreamstate states list --parent STATE --json");
  const auto a = std::make_shared<Arguments>();
  command->add_option("--model", a->model, "Only states of this model")->check(kUtf8);
  command
      ->add_option("--label", a->labels, "Only states with this label; repeated: with all of them")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command->add_option("--parent", a->parent, "Only states made directly from this one")
      ->type_name("STATE")
      ->check(kUtf8);
  command
      ->add_option("--fingerprint", a->fingerprint,
                   "Only states of the backbone with this fingerprint")
      ->check(kUtf8);
  command->add_flag("--oldest-first", a->oldest_first, "Oldest first");
  command->add_option("--limit", a->limit, "At most this many")
      ->check(CLI::Range(1u, 1u << 30))
      ->capture_default_str();
  command->callback([&session, a] { session.Choose([a](Session& s) { return List(s, *a); }); });
}

}  // namespace dreamstate::cli
