#include "core/evaluation/generated_fidelity.h"

#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/evaluation/made_states.h"

namespace dreamstate::evaluation {
namespace {

using diffusion::GenerateMode;

constexpr uint32_t kGaussianStream = 0x47415553;  // "GAUS"; the substream is the window
constexpr uint32_t kShuffleStream = 0x46534855;   // "FSHU"; the substream is the window

// Mean and deviation of every number of a label's training states.
struct Moments {
  std::vector<double> mean, deviation;
};
Moments MomentsOf(const std::vector<Harvested>& states) {
  Moments moments;
  const size_t size = states[0].state.wkv.size();
  moments.mean.assign(size, 0);
  moments.deviation.assign(size, 0);
  const auto count = static_cast<double>(states.size());
  for (const Harvested& one : states) {
    for (size_t i = 0; i < size; ++i) {
      moments.mean[i] += one.state.wkv[i] / count;
      moments.deviation[i] += double{one.state.wkv[i]} * one.state.wkv[i] / count;
    }
  }
  for (size_t i = 0; i < size; ++i) {
    moments.deviation[i] =
        std::sqrt(std::max(0.0, moments.deviation[i] - moments.mean[i] * moments.mean[i]));
  }
  return moments;
}

}  // namespace

absl::StatusOr<GeneratedFidelity> MeasureGeneratedFidelity(
    const std::shared_ptr<const GenerationSources>& sources, const FidelityOptions& options) {
  const StatesUnderTest& states = sources->states;
  const WindowChoice& choice = states.choice();
  std::vector<LabelledState> training, held_out;
  for (int32_t label = 0; label < static_cast<int32_t>(choice.labels.size()); ++label) {
    for (const Harvested& one : states.OfLabel(label)) training.push_back({&one.state, label});
  }
  for (size_t i = 0; i < choice.windows.size(); ++i) {
    held_out.push_back({&states.OwnAfter(i).state, choice.windows[i].label});
  }
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<FidelityMeter> meter,
                      FidelityMeter::Make(training, held_out, options));
  GeneratedFidelity fidelity;
  fidelity.variance_share = meter->variance_share();
  fidelity.rows.push_back(meter->Real());

  // One state a window; `make` may fail.
  const auto measure =
      [&](const std::string& id, const std::string& name,
          const std::function<absl::StatusOr<state::State>(size_t)>& make) -> absl::Status {
    std::vector<state::State> made;
    for (size_t i = 0; i < choice.windows.size(); ++i) {
      DS_ASSIGN_OR_RETURN(state::State one, make(i));
      made.push_back(std::move(one));
    }
    std::vector<LabelledState> list;
    for (size_t i = 0; i < made.size(); ++i) list.push_back({&made[i], choice.windows[i].label});
    DS_ASSIGN_OR_RETURN(FidelityRow row, meter->Measure(id, name, list));
    fidelity.rows.push_back(std::move(row));
    return absl::OkStatus();
  };
  const auto generated = [&](const std::string& id, const std::string& name, ToldFacts told,
                             GenerateMode mode, double guidance) {
    const auto source = std::make_shared<GeneratedStates>(sources, told, mode, guidance);
    return measure(id, name, [source](size_t i) -> absl::StatusOr<state::State> {
      const state::State* made = source->Of(i, /*draw=*/0);
      if (made == nullptr) return source->status();
      return *made;
    });
  };
  constexpr auto kSample = GenerateMode::kSample;
  const ToldFacts label = {.label = true}, text = {.text = true},
                  both = {.label = true, .text = true};
  DS_RETURN_IF_ERROR(generated("label_sample", "sample, label", label, kSample, 1));
  DS_RETURN_IF_ERROR(generated("label_sample_guided",
                               StrCat("sample, label, guidance ", sources->options.guidance), label,
                               kSample, sources->options.guidance));
  DS_RETURN_IF_ERROR(generated("text_sample", "sample, excerpt", text, kSample, 1));
  DS_RETURN_IF_ERROR(generated("both_sample", "sample, both", both, kSample, 1));
  DS_RETURN_IF_ERROR(generated("label_mean", "mean, label", label, GenerateMode::kMean, 1));
  DS_RETURN_IF_ERROR(
      measure("class_mean", "class mean", [&](size_t i) { return states.ClassMean(i).state; }));

  // Each layer from another sample of the label: what joint modelling of layers is worth.
  std::vector<std::unique_ptr<GeneratedStates>> draws;
  const state::Shape& shape = states.shape();
  for (int layer = 0; layer < shape.layers; ++layer) {
    draws.push_back(std::make_unique<GeneratedStates>(sources, label, kSample, 1));
  }
  DS_RETURN_IF_ERROR(measure(
      "label_sample_layers", "sample, label, layers of different samples",
      [&](size_t i) -> absl::StatusOr<state::State> {
        state::State mixed = state::State::Empty(shape);
        const auto size = static_cast<ptrdiff_t>(shape.wkv_elements() / shape.layers);
        for (int layer = 0; layer < shape.layers; ++layer) {
          const state::State* made = draws[static_cast<size_t>(layer)]->Of(i, layer);
          if (made == nullptr) return draws[static_cast<size_t>(layer)]->status();
          std::copy_n(made->wkv.begin() + layer * size, size, mixed.wkv.begin() + layer * size);
        }
        return mixed;
      }));
  draws.clear();
  int32_t of = -1;
  Moments moments;
  DS_RETURN_IF_ERROR(
      measure("gaussian", "normal numbers with the label's means and deviations",
              [&](size_t i) -> absl::StatusOr<state::State> {
                if (choice.windows[i].label != of) {
                  of = choice.windows[i].label;
                  moments = MomentsOf(states.OfLabel(of));
                }
                Draws random(options.seed, kGaussianStream, static_cast<uint32_t>(i));
                state::State made = state::State::Empty(shape);
                for (size_t k = 0; k < made.wkv.size(); ++k) {
                  const double radius = std::sqrt(-2 * std::log(1 - random.Uniform()));
                  const double normal = radius * std::cos(2 * std::numbers::pi * random.Uniform());
                  made.wkv[k] = static_cast<float>(moments.mean[k] + moments.deviation[k] * normal);
                }
                return made;
              }));
  DS_RETURN_IF_ERROR(measure("shuffled", "own states, entries shuffled",
                             [&](size_t i) -> absl::StatusOr<state::State> {
                               Draws random(options.seed, kShuffleStream, static_cast<uint32_t>(i));
                               return Shuffled(states.OwnAfter(i).state, random).state;
                             }));
  return fidelity;
}

}  // namespace dreamstate::evaluation
