// dreamstate states remake
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/names.h"
#include "google/protobuf/util/json_util.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string name;
};

// The request that a state's lineage keeps.
template <typename Request>
absl::StatusOr<Request> RequestOf(const v1::State& state) {
  const auto& fields = state.lineage().arguments().fields();
  const auto found = fields.find("request");
  std::string json;
  Request request;
  if (found == fields.end() ||
      !google::protobuf::util::MessageToJsonString(found->second, &json).ok() ||
      !google::protobuf::util::JsonStringToMessage(json, &request).ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat(state.name(), ": its lineage does not hold the request that made it"));
  }
  return request;
}

absl::StatusOr<v1::State> Make(client::Client& client, const v1::State& old,
                               const client::CallOptions& options) {
  const std::string& operation = old.lineage().operation();
  if (operation == "generate") {
    absl::StatusOr<v1::GenerateStatesRequest> request = RequestOf<v1::GenerateStatesRequest>(old);
    if (!request.ok()) return request.status();
    v1::State made;
    const absl::StatusOr<v1::GenerationSummary> summary =
        client.GenerateStates(*std::move(request),
                              {.on_start = nullptr,
                               .on_progress = nullptr,
                               .on_state =
                                   [&made](const v1::GeneratedState& state) {
                                     made = state.state();
                                     return absl::OkStatus();
                                   }},
                              options);
    if (!summary.ok()) return summary.status();
    return made;
  }
  if (operation == "edit") {
    absl::StatusOr<v1::EditStateRequest> request = RequestOf<v1::EditStateRequest>(old);
    if (!request.ok()) return request.status();
    absl::StatusOr<v1::EditStateResponse> edited = client.EditState(*std::move(request), options);
    if (!edited.ok()) return edited.status();
    return std::move(*edited->mutable_state());
  }
  return absl::FailedPreconditionError(
      absl::StrCat(old.name(), " was made by ", operation,
                   ": only generated and edited states are made again; states that read tokens "
                   "are moved by `dreamstate states migrate`"));
}

absl::Status Remake(Session& session, const Arguments& arguments) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::State> old = (*client)->GetState(arguments.name, session.Call());
  if (!old.ok()) return old.status();
  const absl::StatusOr<v1::State> made = Make(**client, *old, session.Call());
  if (!made.ok()) return made.status();
  Output& output = session.output();
  if (output.json()) {
    output.Json(*made);
    return absl::OkStatus();
  }
  output.Line(made->name());
  if (old->deleted()) return absl::OkStatus();
  const absl::StatusOr<v1::CompareStatesResponse> compared =
      (*client)->CompareStates(old->name(), made->name(), session.Call());
  if (!compared.ok()) return compared.status();
  output.Line(compared->identical() ? "the same to the bit"
                                    : absl::StrFormat("differs by %.2g of its norm",
                                                      compared->total().relative_distance()));
  return absl::OkStatus();
}

}  // namespace

void AddStatesRemake(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "remake", "Make a generated or edited state again from what its lineage says",
      "  dreamstate states remake STATE\n"
      "\n"
      "States that it was made from must still be there, and the same state DiT must serve.");
  const auto a = std::make_shared<Arguments>();
  command->add_option("STATE", a->name, "The state's name or id; it may be deleted")
      ->required()
      ->type_name("")
      ->check(kUtf8);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Remake(s, *a); }); });
}

}  // namespace dreamstate::cli
