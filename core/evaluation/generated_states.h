// States that a generator makes for the windows of an evaluation, told of each window its label, an
// excerpt of its own text, both, or nothing. Seeded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/state_generator.h"
#include "core/evaluation/states_under_test.h"
#include "core/rwkv/engine.h"

namespace dreamstate::evaluation {

struct GeneratedOptions {
  std::vector<std::string> labels;  // the generator's, by index
  std::vector<int> taps;            // layers that its texts are read from
  int excerpt_tokens = 64;          // of a window's own context, from a random place
  int draws = 3;                    // samples tried on each window
  int steps = 10;
  double guidance = 2.0;  // of the rows with guidance
  uint64_t seed = 0;
};

// What windows are generated from. Immutable; refers to states and generator.
struct GenerationSources {
  const StatesUnderTest& states;
  const diffusion::StateGenerator& generator;
  const GeneratedOptions options;
  std::vector<int32_t> label;                   // [windows], the generator's
  std::vector<std::vector<int32_t>> excerpts;   // [windows]
  std::vector<std::vector<float>> activations;  // [windows], of the excerpts

  // INVALID_ARGUMENT when the generator does not know a label of the windows.
  static absl::StatusOr<std::shared_ptr<const GenerationSources>> Make(
      const StatesUnderTest& states, int32_t separator, const diffusion::StateGenerator& generator,
      rwkv::Engine& engine, const GeneratedOptions& options);

  size_t windows() const { return label.size(); }
};

// Which of a window's facts the generator is told.
struct ToldFacts {
  bool label = false, text = false;
  bool others = false;  // those of another window, of another label
};

// The states of one kind, made batch by batch as windows are asked for. Not thread-safe.
class GeneratedStates {
 public:
  GeneratedStates(std::shared_ptr<const GenerationSources> sources, ToldFacts told,
                  diffusion::GenerateMode mode, double guidance)
      : sources_(std::move(sources)), told_(told), mode_(mode), guidance_(guidance) {}

  // Valid until the next call. Null when generating failed: status() says why.
  const state::State* Of(size_t window, int draw);
  const absl::Status& status() const { return status_; }

 private:
  size_t Other(size_t window) const;
  void Make(size_t begin, int draw);

  const std::shared_ptr<const GenerationSources> sources_;
  const ToldFacts told_;
  const diffusion::GenerateMode mode_;
  const double guidance_;
  absl::Status status_;
  std::vector<state::State> states_;
  size_t begin_ = 0;
  int draw_ = 0;
};

}  // namespace dreamstate::evaluation
