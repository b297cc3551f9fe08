// dreamstate states generate
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/generation_arguments.h"
#include "client/cli/progress_bar.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string model;
  ConditionArguments conditions;
  DrawArguments draw;
  KeepArguments keep;
  int samples = 1;
  int first_sample = 0;
  int best_of = 0;
  std::string score_text;
  std::string keep_from;
  MaskArguments kept;
  bool strict = false;
};

absl::StatusOr<v1::GenerateStatesRequest> Build(const Arguments& arguments) {
  v1::GenerateStatesRequest request;
  request.set_model(client::ModelName(arguments.model));
  arguments.conditions.Fill(request.mutable_conditions());
  arguments.draw.Fill(request.mutable_options());
  request.set_samples(arguments.samples);
  request.set_first_sample(arguments.first_sample);
  if ((arguments.best_of != 0) != !arguments.score_text.empty()) {
    return UsageError("--best-of and --score-text go together");
  }
  if (arguments.best_of != 0) {
    request.mutable_best_of()->set_candidates(arguments.best_of);
    request.mutable_best_of()->mutable_text()->set_text(arguments.score_text);
  }
  if (arguments.keep_from.empty() != !arguments.kept.given()) {
    return UsageError("--keep-from STATE needs --layers or --heads that stay, and they it");
  }
  if (!arguments.keep_from.empty()) {
    request.mutable_inpainting()->set_state(client::StateName(arguments.keep_from));
    arguments.kept.Fill(request.mutable_inpainting()->mutable_keep());
  }
  request.set_strict(arguments.strict);
  arguments.keep.Fill(request.mutable_annotations());
  return request;
}

std::string Show(const v1::GeneratedState& made) {
  std::string line = made.state().name();
  if (made.best_bits_per_byte() > 0) {
    absl::StrAppendFormat(&line, "  %.4f bits per byte (worst %.4f)", made.best_bits_per_byte(),
                          made.worst_bits_per_byte());
  }
  if (made.has_safety()) absl::StrAppend(&line, "  gate: ", ShowSafety(made.safety()));
  if (made.replaced_by_mean()) {
    absl::StrAppend(&line, "  (the mean state, in place of ",
                    ShowNumber(made.rejected(), "rejected draw"), ")");
  } else if (made.rejected() > 0) {
    absl::StrAppend(&line, "  (after ", ShowNumber(made.rejected(), "rejected draw"), ")");
  }
  return line;
}

absl::Status Generate(Session& session, const Arguments& arguments) {
  absl::StatusOr<v1::GenerateStatesRequest> request = Build(arguments);
  if (!request.ok()) return request.status();
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  Output& output = session.output();
  uint64_t seed = 0;
  client::GenerateHandlers handlers;
  const auto as_json = [&output](auto set) {
    v1::GenerateStatesResponse line;
    set(line);
    output.Json(line);
    return absl::OkStatus();
  };
  handlers.on_start = [&](const v1::GenerationStart& start) {
    seed = start.seed();
    if (!output.json()) return absl::OkStatus();
    return as_json([&](auto& line) { *line.mutable_start() = start; });
  };
  handlers.on_progress = [&](const v1::GenerationProgress& progress) {
    if (output.shows_progress()) {
      output.Progress(absl::StrCat(ProgressBar(progress.step(), progress.steps()), " step ",
                                   progress.step(), " of ", progress.steps()));
    }
    return absl::OkStatus();
  };
  handlers.on_state = [&](const v1::GeneratedState& made) {
    output.Progress("");
    if (output.json()) return as_json([&](auto& line) { *line.mutable_state() = made; });
    output.Line(Show(made));
    return absl::OkStatus();
  };
  const absl::StatusOr<v1::GenerationSummary> summary =
      (*client)->GenerateStates(*std::move(request), handlers, session.Call());
  output.Progress("");
  if (!summary.ok()) return summary.status();
  if (output.json()) return as_json([&](auto& line) { *line.mutable_summary() = *summary; });
  output.Note(absl::StrFormat("%s in %.2f s, seed %u", ShowNumber(summary->states(), "state"),
                              summary->seconds(), seed));
  return absl::OkStatus();
}

}  // namespace

void AddStatesGenerate(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "generate", "Make states with the model's state DiT",
      "  dreamstate states generate --of python --label made\n"
      "  dreamstate states generate --of c=2 --of go=-0.5 --samples 4 --seed 7\n"
      "  dreamstate states generate --like \"Once upon a time\" --mode mean\n"
      "  dreamstate states generate --of java --best-of 8 --score-text \"public class Main {\"\n"
      "  dreamstate states generate --keep-from STATE --layers 0,1 --of rust\n"
      "\n"
      "What is made decodes like any state: dreamstate decode --from STATE");
  const auto a = std::make_shared<Arguments>();
  command->add_option("--model", a->model, "Which model; needed when the server has several")
      ->check(kUtf8);
  a->conditions.AddTo(*command);
  a->draw.AddTo(*command);
  command->add_option("--samples", a->samples, "How many, 1 to 64")->capture_default_str();
  command->add_option("--first-sample", a->first_sample,
                      "Where in the seed's samples to begin: more of the same");
  command->add_option("--best-of", a->best_of,
                      "Make so many for each, 2 to 32, and keep the one that predicts --score-text "
                      "best");
  command->add_option("--score-text", a->score_text, "What --best-of is judged by")->check(kUtf8);
  command
      ->add_option("--keep-from", a->keep_from,
                   "A state of which --layers and --heads stay; the rest is made to them")
      ->type_name("STATE")
      ->check(kUtf8);
  a->kept.AddTo(*command, "that stay, with --keep-from");
  command->add_flag("--strict", a->strict, "Never keep a state that fails the safety gate");
  a->keep.AddTo(*command);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Generate(s, *a); }); });
}

}  // namespace dreamstate::cli
