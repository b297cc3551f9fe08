#include "core/evaluation/edited_conditions.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "core/base/draws.h"
#include "core/base/strings.h"
#include "core/evaluation/coded_state.h"
#include "core/state/algebra.h"

namespace dreamstate::evaluation {
namespace {

using diffusion::StateRequest;
using state::State;

constexpr size_t kBatch = 20;
constexpr uint32_t kSpoilStream = 0x53504f49;  // "SPOI"; the substream is the window
constexpr double kNoise = 0.7;  // that spoils a state, in units of the codec's scales
constexpr int kSoup = 4;        // states of a soup

// What is done to the states of some windows, batch by batch as they are asked for. Not
// thread-safe.
class Edited {
 public:
  // States of windows [begin, end).
  using Make = std::function<absl::StatusOr<std::vector<State>>(size_t begin, size_t end)>;
  Edited(size_t windows, Make make) : windows_(windows), make_(std::move(make)) {}

  // Null when it failed.
  const State* Of(size_t window) {
    const size_t begin = window / kBatch * kBatch;
    if (!made_ || begin != begin_) {
      auto made = make_(begin, std::min(begin + kBatch, windows_));
      made_ = made.ok() ? *std::move(made) : std::vector<State>();
      begin_ = begin;
    }
    return made_->empty() ? nullptr : &(*made_)[window - begin];
  }

 private:
  const size_t windows_;
  const Make make_;
  std::optional<std::vector<State>> made_;
  size_t begin_ = 0;
};

// States that edits begin from, and what is done to them.
class Edits {
 public:
  explicit Edits(std::shared_ptr<const GenerationSources> sources) : sources_(std::move(sources)) {}

  using From = std::function<State(size_t window)>;

  State Own(size_t window) const { return sources_->states.OwnAfter(window).state; }
  State ClassMean(size_t window) const { return sources_->states.ClassMean(window).state; }
  State Soup(size_t window) const { return sources_->states.Soup(window, kSoup).state; }
  State WrongLabel(size_t window) const { return sources_->states.WrongLabel(window).state; }
  // Through the codec, with noise on every number of the code.
  State Spoilt(size_t window, double noise) const {
    const diffusion::StateCodec& codec = sources_->generator.codec();
    std::vector<float> code(static_cast<size_t>(codec.code_elements()));
    codec.Encode(Own(window).wkv, code);
    Draws draws(sources_->options.seed, kSpoilStream, static_cast<uint32_t>(window));
    for (float& value : code) {
      // A sum of twelve uniform numbers is normal enough for noise.
      double sum = -6;
      for (int i = 0; i < 12; ++i) sum += draws.Uniform();
      value += static_cast<float>(noise * sum);
    }
    return codec.DecodeState(code);
  }
  // As the codec gives it back.
  State Coded(const State& state) const {
    const diffusion::StateCodec& codec = sources_->generator.codec();
    return evaluation::Coded(codec, state, codec.blocks());
  }
  // Layers from the middle on, of several.
  state::HeadMask LateLayers() const {
    const state::Shape& shape = sources_->states.shape();
    std::vector<int> layers;
    for (int layer = shape.layers / 2; layer < shape.layers; ++layer) layers.push_back(layer);
    return state::MakeHeadMask(shape, layers, {}).value();
  }
  // Of several heads.
  state::HeadMask OddHeads() const {
    const state::Shape& shape = sources_->states.shape();
    std::vector<int> heads;
    for (int head = 1; head < shape.heads; head += 2) heads.push_back(head);
    return state::MakeHeadMask(shape, {}, heads).value();
  }

  // `from` noised to this share and made anew.
  Edited::Make Project(From from, double noise, bool label) const {
    return Generate(std::move(from), label,
                    [noise](StateRequest* request) { request->noise = noise; });
  }
  // The own state with what the mask names made anew.
  Edited::Make Inpaint(const state::HeadMask& mask, bool label) const {
    state::HeadMask keep = mask;
    keep.flip();
    return Generate([this](size_t window) { return Own(window); }, label,
                    [keep](StateRequest* request) { request->keep = keep; });
  }
  Edited::Make Translate(double noise) const {
    return [this, noise](size_t begin, size_t end) -> absl::StatusOr<std::vector<State>> {
      std::vector<State> states;
      for (size_t i = begin; i < end; ++i) {
        const State from = WrongLabel(i);
        diffusion::TranslateRequest request = {
            .state = &from, .noise = noise, .seed = sources_->options.seed + i};
        request.to.push_back({.label = sources_->label[i], .text = {}});
        auto made = sources_->generator.Translate(request, {.steps = sources_->options.steps});
        if (!made.ok()) return made.status();
        states.push_back(Coded(*made));
      }
      return states;
    };
  }

 private:
  Edited::Make Generate(From from, bool label, std::function<void(StateRequest*)> how) const {
    return [this, from = std::move(from), label, how = std::move(how)](
               size_t begin, size_t end) -> absl::StatusOr<std::vector<State>> {
      std::vector<State> states;
      for (size_t i = begin; i < end; ++i) states.push_back(from(i));
      std::vector<StateRequest> requests;
      for (size_t i = begin; i < end; ++i) {
        StateRequest request = {.from = &states[i - begin],
                                .seed = sources_->options.seed,
                                .sample = static_cast<int64_t>(i)};
        if (label) request.conditions.push_back({.label = sources_->label[i], .text = {}});
        how(&request);
        requests.push_back(std::move(request));
      }
      return sources_->generator.Generate(requests, {.steps = sources_->options.steps});
    };
  }

  const std::shared_ptr<const GenerationSources> sources_;
};

}  // namespace

std::vector<ConditionSection> MakeEditedConditions(
    const std::shared_ptr<const GenerationSources>& sources, int32_t separator) {
  const auto edits = std::make_shared<const Edits>(sources);
  ConditionSection section;
  const auto row = [&](std::string id, std::string name, std::function<State(size_t)> of) {
    section.conditions.push_back(
        {.id = std::move(id),
         .name = std::move(name),
         .context_tokens = 1,
         .make = [edits, of = std::move(of), separator](size_t i, int, std::list<Harvested>& made) {
           made.push_back({.state = of(i), .last_hidden = {}});
           return Reading{.from = &made.back(), .context = {separator}};
         }});
  };
  const auto edited = [&](std::string id, std::string name, Edited::Make make) {
    const auto states = std::make_shared<Edited>(sources->windows(), std::move(make));
    row(std::move(id), std::move(name), [states, edits, sources](size_t i) {
      const State* state = states->Of(i);
      // What could not be made is worth what the zero state is.
      return state == nullptr ? State::Empty(sources->states.shape()) : *state;
    });
  };
  std::vector<ConditionSection> sections;
  const auto own = [edits](size_t i) { return edits->Own(i); };
  const auto noised = [edits](size_t i) { return edits->Spoilt(i, kNoise); };
  const auto soup = [edits](size_t i) { return edits->Soup(i); };

  section = {.title = "projection of a clean state", .conditions = {}};
  row("own_coded", "own state", [edits](size_t i) { return edits->Coded(edits->Own(i)); });
  for (const double noise : {0.05, 0.1, 0.2, 0.3}) {
    edited(StrCat("projected_", noise), StrCat("noise ", noise), edits->Project(own, noise, false));
  }
  edited("projected_label", "noise 0.2, told its label", edits->Project(own, 0.2, true));
  sections.push_back(std::move(section));

  section = {.title = "repair", .conditions = {}};
  row("noised", StrCat("own state with noise of ", kNoise), noised);
  for (const double noise : {0.3, 0.5}) {
    edited(StrCat("repaired_", noise), StrCat("projected, noise ", noise),
           edits->Project(noised, noise, false));
    edited(StrCat("repaired_label_", noise), StrCat("projected, noise ", noise, ", told its label"),
           edits->Project(noised, noise, true));
  }
  row("soup", StrCat("mean of ", kSoup, " states of the label"),
      [edits](size_t i) { return edits->Coded(edits->Soup(i)); });
  edited("soup_projected", "projected, noise 0.3, told its label", edits->Project(soup, 0.3, true));
  sections.push_back(std::move(section));

  std::vector<std::pair<const char*, state::HeadMask>> halves;
  const state::Shape& shape = sources->states.shape();
  if (shape.layers > 1) halves.emplace_back("late layers", edits->LateLayers());
  if (shape.heads > 1) halves.emplace_back("odd heads", edits->OddHeads());
  for (const auto& [what, mask] : halves) {
    section = {.title = StrCat("without its ", what), .conditions = {}};
    const std::string id = what[0] == 'l' ? "layers" : "heads";
    row(StrCat(id, "_zero"), "zeros in their place", [edits, mask = mask](size_t i) {
      const State coded = edits->Coded(edits->Own(i));
      return state::Masked(coded, State::Empty(coded.shape), mask);
    });
    row(StrCat(id, "_mean"), "those of the class mean", [edits, mask = mask](size_t i) {
      return state::Masked(edits->Coded(edits->Own(i)), edits->Coded(edits->ClassMean(i)), mask);
    });
    edited(StrCat(id, "_inpainted"), "inpainted", edits->Inpaint(mask, false));
    edited(StrCat(id, "_inpainted_label"), "inpainted, told its label", edits->Inpaint(mask, true));
    sections.push_back(std::move(section));
  }

  section = {.title = "state of another label", .conditions = {}};
  row("wrong_coded", "as it is", [edits](size_t i) { return edits->Coded(edits->WrongLabel(i)); });
  for (const double noise : {0.7, 1.0}) {
    edited(StrCat("translated_", noise), StrCat("translated to the window's, noise ", noise),
           edits->Translate(noise));
  }
  row("mean_coded", "for comparison: the class mean",
      [edits](size_t i) { return edits->Coded(edits->ClassMean(i)); });
  sections.push_back(std::move(section));
  return sections;
}

}  // namespace dreamstate::evaluation
