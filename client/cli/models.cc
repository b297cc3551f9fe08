// dreamstate models {list, show, versions}
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/rejected_version.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

// "3" of models/starter/versions/3.
std::string NumberOf(const std::string& version_name) {
  return version_name.substr(version_name.rfind('/') + 1);
}

std::string ShowFollow(const v1::Model& model) {
  std::string follow = model.follow() == v1::Model::ALL             ? "every new version"
                       : model.follow() == v1::Model::SAME_BACKBONE ? "new versions of its backbone"
                       : model.follow() == v1::Model::PINNED        ? "none but a pinned version"
                                                                    : "-";
  if (!model.pinned_version().empty())
    absl::StrAppend(&follow, "; pinned to version ", NumberOf(model.pinned_version()));
  return follow;
}

// "version 5", "version 5, pinned", "version 5 (6 failed)".
std::string ShowServing(const v1::Model& model, const std::optional<v1::ModelVersion>& rejected) {
  std::string serving = model.serving_version().empty()
                            ? "-"
                            : absl::StrCat("version ", NumberOf(model.serving_version()),
                                           model.pinned_version().empty() ? "" : ", pinned");
  if (rejected) absl::StrAppend(&serving, " (", rejected->version(), " failed)");
  return serving;
}

// "fp32", or "int8 (72 matrices int8, 4 bf16)".
std::string ShowFormats(const v1::Model& model) {
  const std::map<std::string, int32_t> formats(model.matrices_by_format().begin(),
                                               model.matrices_by_format().end());
  if (formats.size() < 2) return model.weight_format();
  return absl::StrCat(model.weight_format(), " (",
                      absl::StrJoin(formats, ", ",
                                    [](std::string* out, const auto& format) {
                                      absl::StrAppend(out, format.second, " matrices ",
                                                      format.first);
                                    }),
                      ")");
}

absl::Status List(Session& session) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  client::Pages<v1::Model> models = (*client)->Models(session.Call());
  Table table({"MODEL", "SERVING", "PARAMETERS", "LAYERS", "WIDTH", "TOKENIZER", "WEIGHTS",
               "DEVICE", "STATE"},
              {false, false, true, true, true});
  int count = 0;
  for (;; ++count) {
    const absl::StatusOr<std::optional<v1::Model>> next = models.Next();
    if (!next.ok()) return next.status();
    if (!next->has_value()) break;
    const v1::Model& model = **next;
    if (session.output().json()) {
      session.output().Json(model);
      continue;
    }
    const absl::StatusOr<std::optional<v1::ModelVersion>> rejected =
        FindRejected(**client, model, session.Call());
    if (!rejected.ok()) return rejected.status();
    table.Add({model.name(), ShowServing(model, *rejected),
               ShowCount(model.backbone().parameters()), absl::StrCat(model.backbone().layers()),
               absl::StrCat(model.backbone().width()), model.tokenizer(), model.weight_format(),
               model.device(), ShowBytes(model.state_bytes())});
  }
  if (session.output().json()) return absl::OkStatus();
  if (count == 0) {
    session.output().Note("no models");
  } else {
    table.Print(session.output());
  }
  return absl::OkStatus();
}

absl::Status Show(Session& session, const std::string& name) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::Model> model = (*client)->GetModel(name, session.Call());
  if (!model.ok()) return model.status();
  Output& output = session.output();
  if (output.json()) {
    output.Json(*model);
    return absl::OkStatus();
  }
  const v1::BackboneConfig& b = model->backbone();
  output.Heading(model->name());
  output.Line(absl::StrCat("  serving      ", model->serving_version().empty()
                                                  ? "nothing yet"
                                                  : model->serving_version()));
  output.Line(absl::StrFormat(
      "  size         %s parameters: %s, ffn %d, vocabulary %d", ShowCount(b.parameters()),
      ShowShape(b.layers(), b.width(), b.heads(), b.head_size()), b.ffn_width(), b.vocab_size()));
  if (model->follow() != v1::Model::FOLLOW_UNSPECIFIED)
    output.Line(absl::StrCat("  follows      ", ShowFollow(*model)));
  if (!model->other_live_versions().empty()) {
    output.Line(absl::StrCat("  also live    ", absl::StrJoin(model->other_live_versions(), ", ")));
  }
  output.Line(
      absl::StrFormat("  ranks        decay %d, in-context learning rate %d, value %d, gate %d",
                      b.rank_decay(), b.rank_iclr(), b.rank_value(), b.rank_gate()));
  output.Line(absl::StrFormat("  tokenizer    %s, end token %d, separator token %d",
                              model->tokenizer(), model->end_token(), model->separator_token()));
  output.Line(absl::StrCat("  computes     ", ShowFormats(*model), " on ", model->device()));
  output.Line(absl::StrCat("  one state    ", ShowBytes(model->state_bytes())));
  output.Line(absl::StrCat("  fingerprint  ", model->backbone_fingerprint()));
  if (!model->chat_template().empty()) {
    output.Line(absl::StrCat("  chat         ",
                             absl::StrReplaceAll(model->chat_template(), {{"\n", "\\n"}})));
  }
  return absl::OkStatus();
}

absl::Status Versions(Session& session, const std::string& name) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  client::Pages<v1::ModelVersion> versions = (*client)->ModelVersions(name, session.Call());
  Table table({"VERSION", "STATE", "CREATED", "SELF-TEST", "COMPONENTS", "REASON"}, {true});
  for (;;) {
    const absl::StatusOr<std::optional<v1::ModelVersion>> next = versions.Next();
    if (!next.ok()) return next.status();
    if (!next->has_value()) break;
    const v1::ModelVersion& version = **next;
    if (session.output().json()) {
      session.output().Json(version);
      continue;
    }
    const v1::ModelVersion::SelfTest& test = version.self_test();
    std::string components;
    for (const auto& component : version.components()) {
      absl::StrAppend(&components, components.empty() ? "" : ", ", component.kind(), " ",
                      ShowBytes(component.bytes()));
    }
    table.Add({absl::StrCat(version.version()),
               absl::StrCat(absl::AsciiStrToLower(v1::ModelVersion::State_Name(version.state())),
                            version.pinned() ? ", pinned" : ""),
               ShowTime(version.created()),
               test.has_measured_nll()
                   ? absl::StrFormat("%.4f of %.4f nats", test.measured_nll(), test.expected_nll())
                   : absl::StrFormat("not run (%.4f nats)", test.expected_nll()),
               components, version.reason()});
  }
  if (!session.output().json()) table.Print(session.output());
  return absl::OkStatus();
}

}  // namespace

void AddModelsList(CLI::App& parent, Session& session) {
  AddCommand(parent, "list", "List models, what serves and where",
             "  dreamstate models\n"
             "  dreamstate models list --json")
      ->callback([&session] { session.Choose(List); });
  // `dreamstate models` alone lists too.
  parent.callback([&parent, &session] {
    if (parent.get_subcommands().empty()) session.Choose(List);
  });
}

void AddModelsShow(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "show", "Show one model: sizes, tokenizer, fingerprint",
                                 "  dreamstate models show starter");
  const auto name = std::make_shared<std::string>();
  command->add_option("name", *name, "The model's name")->required()->check(kUtf8);
  command->callback(
      [&session, name] { session.Choose([name](Session& s) { return Show(s, *name); }); });
}

void AddModelsVersions(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "versions",
                                 "List a model's versions, newest first, with why one was rejected",
                                 "  dreamstate models versions starter");
  const auto name = std::make_shared<std::string>();
  command->add_option("name", *name, "The model's name")->required()->check(kUtf8);
  command->callback(
      [&session, name] { session.Choose([name](Session& s) { return Versions(s, *name); }); });
}

}  // namespace dreamstate::cli
