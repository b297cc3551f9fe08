#include "core/evaluation/generated_conditions.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/evaluation/coded_state.h"
#include "core/evaluation/generated_states.h"

namespace dreamstate::evaluation {
namespace {

using diffusion::GenerateMode;

// The separator, then the window.
Reading From(state::State state, int32_t separator, std::list<Harvested>& made) {
  made.push_back({.state = std::move(state), .last_hidden = {}});
  return {.from = &made.back(), .context = {separator}};
}

// The separator, the excerpt, the separator, then the window.
std::vector<int32_t> ExcerptPrompt(int32_t separator, const std::vector<int32_t>& excerpt) {
  std::vector<int32_t> context = {separator};
  context.insert(context.end(), excerpt.begin(), excerpt.end());
  context.push_back(separator);
  return context;
}

// Sections of the usual table, of which only these rows stay.
std::vector<ConditionSection> References(const StatesUnderTest& states, int32_t separator) {
  static constexpr std::string_view kKept[] = {"own_after",
                                               "foreign",
                                               "class_mean",
                                               "wrong_label",
                                               "shuffled",
                                               "own_constant_shift",
                                               "class_mean_constant_shift"};
  std::vector<ConditionSection> sections = MakeConditions(states, separator);
  for (ConditionSection& section : sections) {
    std::erase_if(section.conditions, [](const StateCondition& condition) {
      return std::find(std::begin(kKept), std::end(kKept), condition.id) == std::end(kKept);
    });
  }
  std::erase_if(sections,
                [](const ConditionSection& section) { return section.conditions.empty(); });
  return sections;
}

}  // namespace

std::vector<ConditionSection> MakeGeneratedConditions(
    const std::shared_ptr<const GenerationSources>& sources, int32_t separator) {
  const StatesUnderTest& states = sources->states;
  const diffusion::StateGenerator& generator = sources->generator;
  const GeneratedOptions& options = sources->options;
  std::vector<ConditionSection> sections = References(states, separator);

  ConditionSection coding = {.title = "own state through the codec, its mean shift vectors",
                             .conditions = {}};
  for (int blocks = generator.codec().blocks(); blocks >= 1; --blocks) {
    coding.conditions.push_back(
        {.id = StrCat("coded_", blocks),
         .name = StrCat("strongest ", blocks, " of 4 blocks of a head"),
         .context_tokens = 1,
         .make = [&states, &generator, separator, blocks](size_t i, int,
                                                          std::list<Harvested>& made) {
           return From(Coded(generator.codec(), states.OwnAfter(i).state, blocks), separator, made);
         }});
  }
  sections.push_back(std::move(coding));

  const std::string excerpt = StrCat(options.excerpt_tokens, " tokens of its own text");
  ConditionSection section = {.title = "generated", .conditions = {}};
  const auto add = [&](std::string id, std::string name, ToldFacts told, GenerateMode mode,
                       double guidance, bool then_prompt = false) {
    const bool sample = mode == GenerateMode::kSample;
    const auto generated = std::make_shared<GeneratedStates>(sources, told, mode, guidance);
    section.conditions.push_back(
        {.id = std::move(id),
         .name = std::move(name),
         .draws = sample ? options.draws : 1,
         .context_tokens = then_prompt ? options.excerpt_tokens + 2 : 1,
         .make = [generated, sources, separator, then_prompt](size_t i, int draw,
                                                              std::list<Harvested>& made) {
           const state::State* state = generated->Of(i, draw);
           // What could not be made is worth what the zero state is.
           Reading reading =
               From(state == nullptr ? state::State::Empty(sources->states.shape()) : *state,
                    separator, made);
           if (then_prompt) reading.context = ExcerptPrompt(separator, sources->excerpts[i]);
           return reading;
         }});
  };
  constexpr auto kSample = GenerateMode::kSample;
  constexpr auto kMean = GenerateMode::kMean;
  const ToldFacts label = {.label = true}, text = {.text = true},
                  both = {.label = true, .text = true};
  add("label_mean", "mean, label", label, kMean, 1);
  add("label_sample", "sample, label", label, kSample, 1);
  add("label_sample_guided", StrCat("sample, label, guidance ", options.guidance), label, kSample,
      options.guidance);
  add("text_mean", StrCat("mean, ", excerpt), text, kMean, 1);
  add("text_sample", StrCat("sample, ", excerpt), text, kSample, 1);
  add("both_mean", "mean, both", both, kMean, 1);
  add("both_sample", "sample, both", both, kSample, 1);
  const bool tuned = sources->generator.sizes().tuned;
  constexpr auto kTuned = GenerateMode::kTuned;
  if (tuned) {
    add("label_tuned", "tuned, label", label, kTuned, 1);
    add("text_tuned", StrCat("tuned, ", excerpt), text, kTuned, 1);
    add("both_tuned", "tuned, both", both, kTuned, 1);
    add("none_tuned", "tuned, nothing told", {}, kTuned, 1);
    add("wrong_label_tuned", "tuned, another label", {.label = true, .others = true}, kTuned, 1);
    add("wrong_text_tuned", "tuned, another text", {.text = true, .others = true}, kTuned, 1);
  }
  add("none_mean", "mean, nothing told", {}, kMean, 1);
  add("wrong_label_mean", "mean, another label", {.label = true, .others = true}, kMean, 1);
  add("wrong_text_mean", "mean, another text", {.text = true, .others = true}, kMean, 1);
  sections.push_back(std::move(section));

  section = {.title = "the excerpt as a prompt", .conditions = {}};
  section.conditions.push_back({.id = "excerpt_prompt",
                                .name = excerpt,
                                .context_tokens = options.excerpt_tokens + 2,
                                .make = [sources, separator](size_t i, int, std::list<Harvested>&) {
                                  return Reading{
                                      .context = ExcerptPrompt(separator, sources->excerpts[i])};
                                }});
  section.conditions.push_back(
      {.id = "class_mean_prompt",
       .name = "class mean, then the excerpt",
       .context_tokens = options.excerpt_tokens + 2,
       .make = [&states, sources, separator](size_t i, int, std::list<Harvested>& made) {
         Reading reading = From(states.ClassMean(i).state, separator, made);
         reading.context = ExcerptPrompt(separator, sources->excerpts[i]);
         return reading;
       }});
  add("label_mean_prompt", "mean, label, then the excerpt", label, kMean, 1, true);
  add("both_mean_prompt", "mean, both, then the excerpt", both, kMean, 1, true);
  if (tuned) {
    add("label_tuned_prompt", "tuned, label, then the excerpt", label, kTuned, 1, true);
    add("text_tuned_prompt", "tuned, excerpt, then the excerpt", text, kTuned, 1, true);
    add("both_tuned_prompt", "tuned, both, then the excerpt", both, kTuned, 1, true);
  }
  sections.push_back(std::move(section));
  return sections;
}

}  // namespace dreamstate::evaluation
