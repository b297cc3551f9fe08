#include "server/inference/generation_validation.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/engine_calls.h"
#include "server/inference/state_messages.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

constexpr int kMaxConditions = 8;
constexpr int kMaxWords = 32;
constexpr size_t kMaxWordBytes = 64;
constexpr float kMaxWeight = 10;
constexpr int kMaxSteps = 1000;

// The text that stands for keywords.
absl::StatusOr<v1::TextInput> TextOf(const v1::StateCondition::Keywords& keywords,
                                     const std::string& field) {
  if (keywords.words().empty() || keywords.words_size() > kMaxWords) {
    return FieldError(StrCat(field, ".words"),
                      StrCat("expected 1 to ", kMaxWords, ", found ", keywords.words_size()));
  }
  for (int i = 0; i < keywords.words_size(); ++i) {
    const size_t bytes = keywords.words(i).size();
    if (bytes >= 1 && bytes <= kMaxWordBytes) continue;
    return FieldError(StrCat(field, ".words[", i, "]"),
                      StrCat("expected 1 to ", kMaxWordBytes, " bytes, found ", bytes));
  }
  v1::TextInput text;
  text.set_text(absl::StrJoin(keywords.words(), " "));
  return text;
}

absl::StatusOr<diffusion::StateCondition> ReadCondition(
    const std::string& field, const v1::StateCondition& message,
    const std::shared_ptr<const ModelSession>& session, const RequestLimits& limits,
    const CallTimes& times) {
  diffusion::StateCondition condition;
  condition.weight = message.has_weight() ? message.weight() : 1;
  if (!(std::abs(condition.weight) <= kMaxWeight) || condition.weight == 0) {
    return FieldError(StrCat(field, ".weight"),
                      StrCat("expected a number in [-", kMaxWeight, ", ", kMaxWeight,
                             "] other than 0, found ", condition.weight));
  }
  v1::TextInput text;
  std::string text_field = StrCat(field, ".text");
  switch (message.form_case()) {
    case v1::StateCondition::kLabel: {
      const absl::StatusOr<int> label = session->state_dit->FindLabel(message.label());
      if (!label.ok())
        return FieldError(StrCat(field, ".label"), StdView(label.status().message()));
      condition.label = *label;
      return condition;
    }
    case v1::StateCondition::kText:
      text = message.text();
      break;
    case v1::StateCondition::kKeywords: {
      text_field = StrCat(field, ".keywords");
      DS_ASSIGN_OR_RETURN(text, TextOf(message.keywords(), text_field));
      break;
    }
    default:
      return FieldError(field, "expected a label, a text or keywords, found none");
  }
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                      ReadTextInput(text, *session, limits.max_condition_tokens, text_field));
  if (tokens.empty()) return FieldError(text_field, "expected at least one token");
  DS_ASSIGN_OR_RETURN(condition.text,
                      ReadActivations(session, tokens, session->state_dit->taps, times));
  return condition;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const StateDit>> RequireStateDit(const ModelSession& session,
                                                                const std::string& digest) {
  if (session.state_dit == nullptr) {
    return absl::FailedPreconditionError(
        StrCat(session.VersionName(), " has no state DiT: its bundle was published without one"));
  }
  if (digest.empty() || digest == session.state_dit->digest) return session.state_dit;
  if (!IsFingerprint(digest)) {
    return FieldError("state_dit_digest", "expected 64 hexadecimal digits");
  }
  return absl::FailedPreconditionError(StrCat(session.VersionName(), ": expected the state DiT ",
                                              digest, ", found ", session.state_dit->digest));
}

absl::StatusOr<GenerationPlan> ReadOptions(const std::string& field,
                                           const v1::GenerationOptions& message) {
  GenerationPlan plan;
  const bool mean = message.mode() == v1::GenerationOptions::MEAN;
  if (!v1::GenerationOptions::Mode_IsValid(message.mode())) {
    return FieldError(StrCat(field, ".mode"), "expected SAMPLE or MEAN");
  }
  if (!v1::GenerationOptions::Solver_IsValid(message.solver())) {
    return FieldError(StrCat(field, ".solver"), "expected HEUN or EULER");
  }
  if (mean && message.has_steps()) {
    return FieldError(StrCat(field, ".steps"), "expected none: the mean state takes one step");
  }
  if (message.has_steps() && (message.steps() < 1 || message.steps() > kMaxSteps)) {
    return FieldError(StrCat(field, ".steps"),
                      StrCat("expected 1 to ", kMaxSteps, ", found ", message.steps()));
  }
  if (mean) {
    plan.options.mode = diffusion::GenerateMode::kMean;
    plan.options.steps = 1;
  } else if (message.has_steps()) {
    plan.options.steps = message.steps();
  }
  if (message.solver() == v1::GenerationOptions::EULER) {
    plan.options.solver = diffusion::Solver::kEuler;
  }
  plan.seed = message.has_seed() ? message.seed() : EntropyBits();
  return plan;
}

absl::StatusOr<std::vector<diffusion::StateCondition>> ReadConditions(
    const std::string& field, const ConditionMessages& messages,
    const std::shared_ptr<const ModelSession>& session, const RequestLimits& limits,
    const CallTimes& times) {
  if (messages.size() > kMaxConditions) {
    return FieldError(field,
                      StrCat("expected at most ", kMaxConditions, ", found ", messages.size()));
  }
  std::vector<diffusion::StateCondition> conditions;
  for (int i = 0; i < messages.size(); ++i) {
    DS_ASSIGN_OR_RETURN(
        diffusion::StateCondition condition,
        ReadCondition(StrCat(field, "[", i, "]"), messages[i], session, limits, times));
    conditions.push_back(std::move(condition));
  }
  return conditions;
}

absl::StatusOr<state::HeadMask> ReadMask(const std::string& field, const v1::HeadMask& message,
                                         const state::Shape& shape) {
  const std::vector<int> layers(message.layers().begin(), message.layers().end());
  const std::vector<int> heads(message.heads().begin(), message.heads().end());
  absl::StatusOr<state::HeadMask> mask = state::MakeHeadMask(shape, layers, heads);
  if (!mask.ok()) return WithFieldPrefix(mask.status(), field);
  return mask;
}

absl::StatusOr<double> ReadNoise(const std::string& field, float value, bool whole) {
  if (value > 0 && (value < 1 || (whole && value == 1))) return double{value};
  return FieldError(field, StrCat("expected a share of noise above 0 ",
                                  whole ? "to 1" : "and below 1", ", found ", value));
}

}  // namespace dreamstate::server
