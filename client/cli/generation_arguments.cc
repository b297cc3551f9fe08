#include "client/cli/generation_arguments.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"

namespace dreamstate::cli {
namespace {

// The text without its weight, which is put into `condition`.
std::string TakeWeight(const std::string& text, v1::StateCondition* condition) {
  const size_t equals = text.rfind('=');
  float weight = 0;
  if (equals == std::string::npos || equals == 0 ||
      !absl::SimpleAtof(text.substr(equals + 1), &weight)) {
    return text;
  }
  condition->set_weight(weight);
  return text.substr(0, equals);
}

}  // namespace

void ConditionArguments::AddTo(CLI::App& command) {
  command
      .add_option(
          "--of", labels,
          "A label that the state DiT knows; =WEIGHT leans towards it (2) or away (-1); may "
          "be repeated")
      ->type_name("LABEL[=WEIGHT]")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command.add_option("--like", texts, "A text that it shall be like; may be repeated")
      ->type_name("TEXT[=WEIGHT]")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command.add_option("--about", keywords, "A word that it shall have to do with; may be repeated")
      ->type_name("WORD")
      ->allow_extra_args(false)
      ->check(kUtf8);
}

void FillLabel(const std::string& text, Conditions* conditions) {
  v1::StateCondition* const condition = conditions->Add();
  condition->set_label(TakeWeight(text, condition));
}

void ConditionArguments::Fill(Conditions* conditions) const {
  for (const std::string& label : labels) FillLabel(label, conditions);
  for (const std::string& text : texts) {
    v1::StateCondition* const condition = conditions->Add();
    condition->mutable_text()->set_text(TakeWeight(text, condition));
  }
  if (keywords.empty()) return;
  conditions->Add()->mutable_keywords()->mutable_words()->Assign(keywords.begin(), keywords.end());
}

void DrawArguments::AddTo(CLI::App& command) {
  command
      .add_option("--mode", mode,
                  "sample: a draw (default); mean: the expected state, in one step, often the more "
                  "useful one")
      ->type_name("MODE")
      ->check(CLI::IsMember({"sample", "mean"}));
  command.add_option("--steps", steps, "Steps of the solver, 1 to 1000 (default 10)")
      ->type_name("N");
  command.add_option("--solver", solver, "heun (default) or euler, which takes half the time")
      ->type_name("SOLVER")
      ->check(CLI::IsMember({"heun", "euler"}));
  command.add_option("--seed", seed, "Same seed, same noise; default: drawn and printed")
      ->type_name("N");
}

void DrawArguments::Fill(v1::GenerationOptions* options) const {
  if (mode == "mean") options->set_mode(v1::GenerationOptions::MEAN);
  if (mode == "sample") options->set_mode(v1::GenerationOptions::SAMPLE);
  if (steps) options->set_steps(*steps);
  if (solver == "heun") options->set_solver(v1::GenerationOptions::HEUN);
  if (solver == "euler") options->set_solver(v1::GenerationOptions::EULER);
  if (seed) options->set_seed(*seed);
}

void MaskArguments::AddTo(CLI::App& command, const std::string& what) {
  command.add_option("--layers", layers, absl::StrCat("Layers ", what, ": 0,1 (default all)"))
      ->type_name("LAYERS")
      ->delimiter(',');
  command.add_option("--heads", heads, absl::StrCat("Heads of them ", what, " (default all)"))
      ->type_name("HEADS")
      ->delimiter(',');
}

void MaskArguments::Fill(v1::HeadMask* mask) const {
  mask->mutable_layers()->Assign(layers.begin(), layers.end());
  mask->mutable_heads()->Assign(heads.begin(), heads.end());
}

void KeepArguments::AddTo(CLI::App& command) {
  command.add_option("--label", labels, "Label for the new state; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8);
  AddDuration(command, "--ttl", &ttl, "Delete the new state after this long");
}

void KeepArguments::Fill(v1::Annotations* annotations) const {
  annotations->mutable_labels()->Assign(labels.begin(), labels.end());
  if (ttl > absl::ZeroDuration()) *annotations->mutable_time_to_live() = ToProto(ttl);
}

std::string ShowSafety(const v1::StateSafety& safety) {
  if (safety.passed()) return "passed";
  std::string text;
  for (const v1::StateSafety::Check& check : safety.checks()) {
    if (check.passed()) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", check.name());
    if (check.layer() >= 0) {
      absl::StrAppend(&text, " of layer ", check.layer(), ", head ", check.head());
    }
    absl::StrAppendFormat(&text, " %.4g is not within %.4g to %.4g", check.value(), check.least(),
                          check.most());
  }
  return text;
}

}  // namespace dreamstate::cli
