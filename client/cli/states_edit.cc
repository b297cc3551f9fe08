// dreamstate states edit: one sub-command an operation.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/generation_arguments.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

// What every operation takes.
struct Common {
  std::string state;
  MaskArguments mask;
  std::optional<float> then_project;
  std::string probe;
  bool strict = false;
  KeepArguments keep;
};

// Fills the request's operation.
using Fill = std::function<void(v1::EditStateRequest*)>;

void Print(const v1::EditStateResponse& edited, Output& output) {
  output.Line(edited.state().name());
  std::string change = absl::StrFormat("changed by %.3f of its norm, which is %.3f of what it was",
                                       edited.relative_change(), edited.relative_norm());
  if (edited.has_energy_before()) {
    absl::StrAppendFormat(&change, "; energy %.4f -> %.4f", edited.energy_before(),
                          edited.energy_after());
  }
  output.Line(change);
  if (edited.has_safety()) output.Line(absl::StrCat("gate: ", ShowSafety(edited.safety())));
  if (edited.has_probe_bits_per_byte_before()) {
    output.Line(absl::StrFormat("probe: %.4f -> %.4f bits per byte",
                                edited.probe_bits_per_byte_before(),
                                edited.probe_bits_per_byte_after()));
  }
  if (edited.seed() != 0) output.Note(absl::StrCat("seed ", edited.seed()));
}

absl::Status Edit(Session& session, const Common& common, const Fill& fill) {
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  v1::EditStateRequest request;
  request.set_state(client::StateName(common.state));
  fill(&request);
  if (common.mask.given()) common.mask.Fill(request.mutable_mask());
  if (common.then_project) request.mutable_then_project()->set_noise(*common.then_project);
  if (!common.probe.empty()) request.mutable_probe()->set_text(common.probe);
  request.set_strict(common.strict);
  common.keep.Fill(request.mutable_annotations());
  const absl::StatusOr<v1::EditStateResponse> edited =
      (*client)->EditState(std::move(request), session.Call());
  if (!edited.ok()) return edited.status();
  if (session.output().json()) {
    session.output().Json(*edited);
  } else {
    Print(*edited, session.output());
  }
  return absl::OkStatus();
}

// Adds an operation: its own flags by `add`, which gives what fills the request.
void AddOperation(CLI::App& parent, Session& session, const std::string& name,
                  const std::string& description, const std::string& examples,
                  const std::function<Fill(CLI::App&)>& add) {
  CLI::App* command = AddCommand(parent, name, description, examples);
  const auto common = std::make_shared<Common>();
  command->add_option("STATE", common->state, "The name or id of the state that is edited")
      ->required()
      ->type_name("")
      ->check(kUtf8);
  Fill fill = add(*command);
  common->mask.AddTo(*command, "that change");
  command
      ->add_option("--then-project", common->then_project,
                   "Noise the result by this share and take it back to the states that the model "
                   "knows")
      ->type_name("NOISE");
  command
      ->add_option("--probe", common->probe, "A text whose loss is shown before and after the edit")
      ->type_name("TEXT")
      ->check(kUtf8);
  command->add_flag("--strict", common->strict, "Keep nothing that fails the safety gate");
  common->keep.AddTo(*command);
  command->callback([&session, common, fill = std::move(fill)] {
    session.Choose([common, fill](Session& s) { return Edit(s, *common, fill); });
  });
}

CLI::Option* AddOther(CLI::App& command, const std::string& name, std::string* value,
                      const std::string& description) {
  return command.add_option(name, *value, description)->type_name("")->check(kUtf8);
}

void AddInterpolate(CLI::App& parent, Session& session) {
  AddOperation(parent, session, "interpolate", "Between two states",
               "  dreamstate states edit interpolate STATE OTHER --fraction 0.5\n"
               "  dreamstate states edit interpolate STATE OTHER --path spherical",
               [](CLI::App& command) -> Fill {
                 struct Arguments {
                   std::string other, path = "linear";
                   float fraction = 0.5f;
                   std::optional<int> steps;
                 };
                 const auto a = std::make_shared<Arguments>();
                 AddOther(command, "OTHER", &a->other, "The name or id of the other")->required();
                 command.add_option("--fraction", a->fraction, "0 = STATE, 1 = OTHER")
                     ->capture_default_str();
                 command
                     .add_option("--path", a->path,
                                 "linear; spherical, which keeps norms; flow, through the state "
                                 "DiT's noise")
                     ->type_name("PATH")
                     ->check(CLI::IsMember({"linear", "spherical", "flow"}))
                     ->capture_default_str();
                 command.add_option("--steps", a->steps, "Of path flow (default 10)");
                 return [a](v1::EditStateRequest* request) {
                   using Interpolate = v1::EditStateRequest::Interpolate;
                   Interpolate* const message = request->mutable_interpolate();
                   message->set_other(client::StateName(a->other));
                   message->set_fraction(a->fraction);
                   message->set_path(a->path == "flow"        ? Interpolate::FLOW
                                     : a->path == "spherical" ? Interpolate::SPHERICAL
                                                              : Interpolate::LINEAR);
                   if (a->steps) message->set_steps(*a->steps);
                 };
               });
}

void AddBlend(CLI::App& parent, Session& session) {
  AddOperation(parent, session, "blend", "A weighted sum of states",
               "  dreamstate states edit blend STATE OTHER ANOTHER\n"
               "  dreamstate states edit blend STATE OTHER=0.7 --weight 0.3",
               [](CLI::App& command) -> Fill {
                 struct Arguments {
                   std::vector<std::string> others;
                   std::optional<float> weight;
                 };
                 const auto a = std::make_shared<Arguments>();
                 command
                     .add_option("OTHERS", a->others,
                                 "Names or ids of the others, each with =WEIGHT if not an equal "
                                 "share")
                     ->required()
                     ->type_name("")
                     ->check(kUtf8);
                 command.add_option("--weight", a->weight, "Of STATE (default an equal share)");
                 return [a](v1::EditStateRequest* request) {
                   v1::EditStateRequest::Blend* const message = request->mutable_blend();
                   if (a->weight) message->set_weight(*a->weight);
                   for (const std::string& text : a->others) {
                     Conditions parsed;
                     FillLabel(text, &parsed);
                     v1::EditStateRequest::WeightedState* const other = message->add_others();
                     other->set_state(client::StateName(parsed[0].label()));
                     if (parsed[0].has_weight()) other->set_weight(parsed[0].weight());
                   }
                 };
               });
}

void AddProject(CLI::App& parent, Session& session) {
  AddOperation(parent, session, "project",
               "Noise a state a little and take it back to what the state DiT knows: a repair",
               "  dreamstate states edit project STATE --noise 0.1\n"
               "  dreamstate states edit project STATE --of python --seed 3",
               [](CLI::App& command) -> Fill {
                 struct Arguments {
                   std::optional<float> noise;
                   ConditionArguments conditions;
                   DrawArguments draw;
                 };
                 const auto a = std::make_shared<Arguments>();
                 command.add_option(
                     "--noise", a->noise,
                     "Share of noise, above 0 and below 1 (default 0.1); above 0.2 much is lost");
                 a->conditions.AddTo(command);
                 a->draw.AddTo(command);
                 return [a](v1::EditStateRequest* request) {
                   v1::EditStateRequest::Project* const message = request->mutable_project();
                   if (a->noise) message->set_noise(*a->noise);
                   a->conditions.Fill(message->mutable_conditions());
                   a->draw.Fill(message->mutable_options());
                 };
               });
}

void AddTranslate(CLI::App& parent, Session& session) {
  AddOperation(parent, session, "translate", "From one label to another, keeping the rest",
               "  dreamstate states edit translate STATE --from-label c --to-label rust",
               [](CLI::App& command) -> Fill {
                 struct Arguments {
                   std::vector<std::string> from, to;
                   std::optional<float> noise;
                   DrawArguments draw;
                 };
                 const auto a = std::make_shared<Arguments>();
                 command.add_option("--from-label", a->from, "What it is; may be repeated")
                     ->type_name("LABEL[=WEIGHT]")
                     ->allow_extra_args(false)
                     ->check(kUtf8);
                 command.add_option("--to-label", a->to, "What it shall be; may be repeated")
                     ->required()
                     ->type_name("LABEL[=WEIGHT]")
                     ->allow_extra_args(false)
                     ->check(kUtf8);
                 command.add_option(
                     "--noise", a->noise,
                     "How deep the change begins, above 0 to 1 (default 1): less keeps "
                     "more and changes little");
                 a->draw.AddTo(command);
                 return [a](v1::EditStateRequest* request) {
                   v1::EditStateRequest::Translate* const message = request->mutable_translate();
                   for (const std::string& label : a->from) {
                     FillLabel(label, message->mutable_from());
                   }
                   for (const std::string& label : a->to) FillLabel(label, message->mutable_to());
                   if (a->noise) message->set_noise(*a->noise);
                   a->draw.Fill(message->mutable_options());
                 };
               });
}

void AddInpaint(CLI::App& parent, Session& session) {
  AddOperation(parent, session, "inpaint", "Make --layers and --heads anew, to the others",
               "  dreamstate states edit inpaint STATE --layers 2,3 --of python",
               [](CLI::App& command) -> Fill {
                 struct Arguments {
                   ConditionArguments conditions;
                   DrawArguments draw;
                 };
                 const auto a = std::make_shared<Arguments>();
                 a->conditions.AddTo(command);
                 a->draw.AddTo(command);
                 return [a](v1::EditStateRequest* request) {
                   a->conditions.Fill(request->mutable_inpaint()->mutable_conditions());
                   a->draw.Fill(request->mutable_inpaint()->mutable_options());
                 };
               });
}

void AddArithmetic(CLI::App& parent, Session& session) {
  AddOperation(
      parent, session, "add", "Add the difference of two states",
      "  dreamstate states edit add STATE --plus GERMAN --minus ENGLISH --weight 0.5 "
      "--then-project 0.1",
      [](CLI::App& command) -> Fill {
        struct Arguments {
          std::string plus, minus;
          std::optional<float> weight;
        };
        const auto a = std::make_shared<Arguments>();
        AddOther(command, "--plus", &a->plus, "The state that is added")->type_name("STATE");
        AddOther(command, "--minus", &a->minus, "The state that is taken away")->type_name("STATE");
        command.add_option("--weight", a->weight, "How much of it (default 1)");
        return [a](v1::EditStateRequest* request) {
          auto* const direction = request->mutable_arithmetic()->add_directions();
          if (!a->plus.empty()) direction->set_plus(client::StateName(a->plus));
          if (!a->minus.empty()) direction->set_minus(client::StateName(a->minus));
          if (a->weight) direction->set_weight(*a->weight);
        };
      });
}

void AddScale(CLI::App& parent, Session& session) {
  AddOperation(parent, session, "scale", "Multiply the matrices",
               "  dreamstate states edit scale STATE --factor 0.5", [](CLI::App& command) -> Fill {
                 const auto factor = std::make_shared<float>(1.0f);
                 command.add_option("--factor", *factor, "0 to 4")->required();
                 return [factor](v1::EditStateRequest* request) {
                   request->mutable_scale()->set_factor(*factor);
                 };
               });
}

}  // namespace

void AddStatesEdit(CLI::App& parent, Session& session) {
  CLI::App* group = parent.add_subcommand("edit", "Make a new state out of others");
  group->fallthrough()->require_subcommand(1, 1);
  AddInterpolate(*group, session);
  AddBlend(*group, session);
  AddProject(*group, session);
  AddTranslate(*group, session);
  AddInpaint(*group, session);
  AddArithmetic(*group, session);
  AddScale(*group, session);
}

}  // namespace dreamstate::cli
