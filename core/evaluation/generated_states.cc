#include "core/evaluation/generated_states.h"

#include <algorithm>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/text_activations.h"

namespace dreamstate::evaluation {
namespace {

constexpr uint32_t kExcerptStream = 0x47455843;  // "GEXC"; the substream is the window
// States that are generated at once.
constexpr size_t kBatch = 32;

}  // namespace

absl::StatusOr<std::shared_ptr<const GenerationSources>> GenerationSources::Make(
    const StatesUnderTest& states, int32_t separator, const diffusion::StateGenerator& generator,
    rwkv::Engine& engine, const GeneratedOptions& options) {
  const auto sources = std::make_shared<GenerationSources>(
      GenerationSources{states, generator, options, {}, {}, {}});
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

const state::State* GeneratedStates::Of(size_t window, int draw) {
  const size_t begin = window / kBatch * kBatch;
  if (states_.empty() || begin != begin_ || draw != draw_) Make(begin, draw);
  return states_.empty() ? nullptr : &states_[window - begin];
}

// A window of another label, the same for every row.
size_t GeneratedStates::Other(size_t window) const {
  const auto& windows = sources_->states.choice().windows;
  size_t other = (window + sources_->windows() / 2) % sources_->windows();
  while (windows[other].label == windows[window].label) other = (other + 1) % sources_->windows();
  return other;
}

void GeneratedStates::Make(size_t begin, int draw) {
  const size_t end = std::min(begin + kBatch, sources_->windows());
  std::vector<diffusion::StateRequest> requests;
  for (size_t i = begin; i < end; ++i) {
    const size_t from = told_.others ? Other(i) : i;
    diffusion::StateCondition condition = {.weight = static_cast<float>(guidance_)};
    if (told_.label) condition.label = sources_->label[from];
    if (told_.text) condition.text = sources_->activations[from];
    requests.push_back({.seed = sources_->options.seed + static_cast<uint64_t>(draw),
                        .sample = static_cast<int64_t>(i)});
    if (told_.label || told_.text) requests.back().conditions.push_back(std::move(condition));
  }
  auto made =
      sources_->generator.Generate(requests, {.mode = mode_, .steps = sources_->options.steps});
  begin_ = begin;
  draw_ = draw;
  status_ = made.status();
  states_ = made.ok() ? *std::move(made) : std::vector<state::State>();
}

}  // namespace dreamstate::evaluation
