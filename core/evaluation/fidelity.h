// Whether made states are like real ones: how far their distribution is from the real one's,
// whether a classifier tells them apart, how much they differ among each other, whether they are
// copies of training states (spec section 5; design: science.md point 9, the metrics that
// discriminate, and the failing controls). No torch type is shown.
//
// States are compared without their gauge, each head divided by its root mean square over the
// training states, on the first principal components of the training states.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/table.h"
#include "core/state/state.h"
#include "nlohmann/json.hpp"

namespace dreamstate::evaluation {

struct LabelledState {
  const state::State* state = nullptr;  // outlives the call
  int32_t label = 0;
};

struct FidelityOptions {
  int components = 128;
  int classifier_steps = 300;
  uint64_t seed = 0;
};

struct FidelityRow {
  std::string id;
  std::string name;
  int64_t states = 0;
  // Fréchet distance to as many training states, over that of held-out real states: 1 = as near.
  double frechet = 0;
  // Share of held-out states that a small network calls real or made rightly, real ones against
  // these: .5 = it cannot.
  double classifier = 0;
  // Mean distance of two states of a label, over that of real ones: 0 = all the same.
  double diversity = 0;
  // Share of the ten nearest training states that have the label.
  double purity = 0;
  // Whether these lie nearer to training states than held-out real ones do: the probability that
  // one does (.5 = no), and the share nearer than all but 5 % of the real ones are.
  double memorisation = 0;
  double copied = 0;
};

// Not thread-safe.
class FidelityMeter {
 public:
  // INVALID_ARGUMENT for fewer than 20 states of either kind, a state of another shape, or a label
  // with fewer than two real held-out states.
  static absl::StatusOr<std::unique_ptr<FidelityMeter>> Make(
      const std::vector<LabelledState>& training, const std::vector<LabelledState>& held_out,
      const FidelityOptions& options);
  virtual ~FidelityMeter() = default;

  // Of the training states' variance, what the components have.
  virtual double variance_share() const = 0;
  // The held-out real states themselves: what a perfect sample would reach.
  virtual FidelityRow Real() = 0;
  // INVALID_ARGUMENT for fewer than 20 states, or one of another shape.
  virtual absl::StatusOr<FidelityRow> Measure(std::string id, std::string name,
                                              const std::vector<LabelledState>& states) = 0;
};

Table FidelityTable(const std::vector<FidelityRow>& rows, double variance_share,
                    const FidelityOptions& options);
nlohmann::ordered_json FidelityJson(const std::vector<FidelityRow>& rows);

}  // namespace dreamstate::evaluation
