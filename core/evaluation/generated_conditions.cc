#include "core/evaluation/generated_conditions.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/text_activations.h"

namespace dreamstate::evaluation {
namespace {

using diffusion::GenerateMode;
using diffusion::GenerateOptions;
using diffusion::StateCodec;

constexpr uint32_t kExcerptStream = 0x47455843;  // "GEXC"; the substream is the window
// States that are generated at once.
constexpr size_t kBatch = 32;

// What windows are generated from.
struct Sources {
  const StatesUnderTest& states;
  const diffusion::StateGenerator& generator;
  const GeneratedOptions options;
  std::vector<int32_t> label;                   // [windows], the generator's
  std::vector<std::vector<int32_t>> excerpts;   // [windows]
  std::vector<std::vector<float>> activations;  // [windows], of the excerpts

  size_t windows() const { return label.size(); }
};

// Which of a window's facts a row tells the generator.
struct Told {
  bool label = false, text = false;
  bool others = false;  // those of another window, of another label
};

// The generated states of one row and draw, made batch by batch as windows are asked for.
class Generated {
 public:
  Generated(std::shared_ptr<const Sources> sources, Told told, GenerateMode mode, double guidance)
      : sources_(std::move(sources)), told_(told), mode_(mode), guidance_(guidance) {}

  // Null when generating failed: status() says why.
  const state::State* Of(size_t window, int draw) {
    const size_t begin = window / kBatch * kBatch;
    if (states_.empty() || begin != begin_ || draw != draw_) Make(begin, draw);
    return states_.empty() ? nullptr : &states_[window - begin];
  }

 private:
  // A window of another label, the same for every row.
  size_t Other(size_t window) const {
    const auto& windows = sources_->states.choice().windows;
    size_t other = (window + sources_->windows() / 2) % sources_->windows();
    while (windows[other].label == windows[window].label) other = (other + 1) % sources_->windows();
    return other;
  }

  void Make(size_t begin, int draw) {
    const size_t end = std::min(begin + kBatch, sources_->windows());
    std::vector<diffusion::StateRequest> requests;
    for (size_t i = begin; i < end; ++i) {
      const size_t from = told_.others ? Other(i) : i;
      diffusion::StateCondition condition = {.weight = static_cast<float>(guidance_)};
      if (told_.label) condition.label = sources_->label[from];
      if (told_.text) condition.text = sources_->activations[from];
      requests.emplace_back();
      if (told_.label || told_.text) requests.back().conditions.push_back(std::move(condition));
    }
    auto made = sources_->generator.Generate(
        requests, {.mode = mode_,
                   .steps = sources_->options.steps,
                   .seed = sources_->options.seed + static_cast<uint64_t>(draw),
                   .first_sample = static_cast<int64_t>(begin)});
    begin_ = begin;
    draw_ = draw;
    states_ = made.ok() ? *std::move(made) : std::vector<state::State>();
  }

  const std::shared_ptr<const Sources> sources_;
  const Told told_;
  const GenerateMode mode_;
  const double guidance_;
  std::vector<state::State> states_;
  size_t begin_ = 0;
  int draw_ = 0;
};

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

// The own state as the codec gives it back when the first `blocks` of a head are kept.
state::State Coded(const StateCodec& codec, const state::State& state, int blocks) {
  std::vector<float> code(static_cast<size_t>(codec.code_elements()));
  codec.Encode(state.wkv, code);
  const auto size = static_cast<size_t>(codec.token_size());
  for (size_t token = 0; token < static_cast<size_t>(codec.tokens()); ++token) {
    if (static_cast<int>(token) % codec.blocks() < blocks) continue;
    std::fill_n(code.begin() + static_cast<ptrdiff_t>(token * size), size, 0.0f);
  }
  return codec.DecodeState(code);
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

absl::StatusOr<std::shared_ptr<Sources>> SourcesOf(const StatesUnderTest& states, int32_t separator,
                                                   const diffusion::StateGenerator& generator,
                                                   rwkv::Engine& engine,
                                                   const GeneratedOptions& options) {
  const auto sources = std::make_shared<Sources>(Sources{states, generator, options, {}, {}, {}});
  const WindowChoice& choice = states.choice();
  for (size_t i = 0; i < choice.windows.size(); ++i) {
    const Window& window = choice.windows[i];
    const std::string& name = choice.labels[window.label].name;
    const auto found = std::find(options.labels.begin(), options.labels.end(), name);
    if (found == options.labels.end()) {
      return absl::InvalidArgumentError(
          StrCat("state DiT: expected to know the label ", name, " of the corpus"));
    }
    sources->label.push_back(static_cast<int32_t>(found - options.labels.begin()));
    const auto tokens =
        std::min<size_t>(static_cast<size_t>(options.excerpt_tokens), window.context.size());
    Draws draws(options.seed, kExcerptStream, static_cast<uint32_t>(i));
    const auto begin = window.context.begin() +
                       static_cast<ptrdiff_t>(
                           draws.Below(static_cast<uint32_t>(window.context.size() - tokens + 1)));
    sources->excerpts.emplace_back(begin, begin + static_cast<ptrdiff_t>(tokens));
  }
  DS_ASSIGN_OR_RETURN(sources->activations, diffusion::TextActivations(engine, sources->excerpts,
                                                                       separator, options.taps));
  return sources;
}

}  // namespace

absl::StatusOr<std::vector<ConditionSection>> MakeGeneratedConditions(
    const StatesUnderTest& states, int32_t separator, const diffusion::StateGenerator& generator,
    rwkv::Engine& engine, const GeneratedOptions& options) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const Sources> sources,
                      SourcesOf(states, separator, generator, engine, options));
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
  const auto add = [&](std::string id, std::string name, Told told, GenerateMode mode,
                       double guidance, bool then_prompt = false) {
    const bool sample = mode == GenerateMode::kSample;
    const auto generated = std::make_shared<Generated>(sources, told, mode, guidance);
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
  const Told label = {.label = true}, text = {.text = true}, both = {.label = true, .text = true};
  add("label_mean", "mean, label", label, kMean, 1);
  add("label_sample", "sample, label", label, kSample, 1);
  add("label_sample_guided", StrCat("sample, label, guidance ", options.guidance), label, kSample,
      options.guidance);
  add("text_mean", StrCat("mean, ", excerpt), text, kMean, 1);
  add("text_sample", StrCat("sample, ", excerpt), text, kSample, 1);
  add("both_mean", "mean, both", both, kMean, 1);
  add("both_sample", "sample, both", both, kSample, 1);
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
  sections.push_back(std::move(section));
  return sections;
}

}  // namespace dreamstate::evaluation
