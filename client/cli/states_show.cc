// dreamstate states show
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"

namespace dreamstate::cli {
namespace {

absl::Status Show(Session& session, const std::string& name) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::State> state = (*client)->GetState(name, session.Call());
  if (!state.ok()) return state.status();
  Output& output = session.output();
  if (output.json()) {
    output.Json(*state);
    return absl::OkStatus();
  }
  const v1::Lineage& lineage = state->lineage();
  const auto line = [&output](absl::string_view key, absl::string_view value) {
    output.Line(absl::StrFormat("  %-12s %s", key, value));
  };
  output.Heading(
      absl::StrCat(state->name(), state->deleted() ? "  (deleted; this description is left)" : ""));
  line("model", state->model());
  line("fingerprint", state->backbone_fingerprint());
  line("created", ShowTime(state->created()));
  line("expires", state->has_expires() ? ShowTime(state->expires()) : "never");
  line("labels", state->labels().empty() ? "-" : absl::StrJoin(state->labels(), ", "));
  line("tokens read", absl::StrCat(state->token_count()));
  line("size", absl::StrCat(ShowBytes(state->bytes()), ": ",
                            ShowShape(state->shape().layers(), state->shape().width(),
                                      state->shape().heads(), state->shape().head_size())));
  line("numerics", state->numerics());
  line("next token", state->has_last_hidden() ? "known at once" : "known after the separator");
  line("made by", lineage.operation());
  line("from",
       lineage.parents().empty() ? "the empty state" : absl::StrJoin(lineage.parents(), ", "));
  if (lineage.arguments().fields_size() > 0) line("arguments", ToJson(lineage.arguments()));
  if (lineage.tokens_read() > 0) {
    line("read",
         absl::StrFormat("%d tokens, sha-256 %s%s", lineage.tokens_read(), lineage.tokens_sha256(),
                         lineage.kept_tokens().empty() ? "" : ", kept"));
  }
  line("etag", state->etag());
  return absl::OkStatus();
}

}  // namespace

void AddStatesShow(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "show", "Show one state: sizes, labels, how it was made",
                                 "  dreamstate states show STATE\n"
                                 "  dreamstate states show STATE --json");
  const auto name = std::make_shared<std::string>();
  command->add_option("state", *name, "The state's name or id")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command->callback(
      [&session, name] { session.Choose([name](Session& s) { return Show(s, *name); }); });
}

}  // namespace dreamstate::cli
