// dreamstate models {pin, unpin}
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

void Print(Output& output, const v1::Model& model) {
  if (output.json()) {
    output.Json(model);
    return;
  }
  const std::string& serving = model.serving_version();
  output.Line(absl::StrCat(model.name(), "  ",
                           model.pinned_version().empty()
                               ? "not pinned"
                               : absl::StrCat("pinned to ", model.pinned_version()),
                           "; serves ", serving.empty() ? "nothing yet" : serving));
  if (!model.pinned_version().empty() && serving != model.pinned_version()) {
    output.Note(
        absl::StrCat("the pinned version serves once it is loaded: dreamstate models versions ",
                     client::IdOf(model.name())));
  }
}

absl::Status Pin(Session& session, const std::string& name, const std::string& version) {
  const bool whole = absl::StrContains(name, "/versions/");
  if (whole != version.empty()) {
    return UsageError("expected a model and a version: dreamstate models pin starter 3");
  }
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const std::string full =
      whole ? name : absl::StrCat(client::ModelName(name), "/versions/", version);
  const absl::StatusOr<v1::Model> model = (*client)->PinModelVersion(full, session.Call());
  if (!model.ok()) return model.status();
  Print(session.output(), *model);
  return absl::OkStatus();
}

absl::Status Unpin(Session& session, const std::string& name) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::Model> model = (*client)->UnpinModel(name, session.Call());
  if (!model.ok()) return model.status();
  Print(session.output(), *model);
  return absl::OkStatus();
}

}  // namespace

void AddModelsPin(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "pin",
      "Serve this version and no other until unpinned, on every server of the repository",
      "  dreamstate models pin starter 3\n"
      "  dreamstate models pin models/starter/versions/3");
  const auto name = std::make_shared<std::string>();
  const auto version = std::make_shared<std::string>();
  command->add_option("name", *name, "The model's name")->required()->check(kUtf8);
  command->add_option("version", *version, "The version's number")->check(kUtf8);
  command->callback([&session, name, version] {
    session.Choose([=](Session& s) { return Pin(s, *name, *version); });
  });
}

void AddModelsUnpin(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "unpin", "Follow the newest version again",
                                 "  dreamstate models unpin starter");
  const auto name = std::make_shared<std::string>();
  command->add_option("name", *name, "The model's name")->required()->check(kUtf8);
  command->callback(
      [&session, name] { session.Choose([name](Session& s) { return Unpin(s, *name); }); });
}

}  // namespace dreamstate::cli
