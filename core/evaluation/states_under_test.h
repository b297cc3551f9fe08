// The states whose worth is measured on windows (core/evaluation/state_use.h): those that texts
// left, and those that are made of them. Seeded: the same choice of windows and seed, the same
// states.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/made_states.h"
#include "core/evaluation/windows.h"

namespace dreamstate::evaluation {

// Immutable once harvested. Holds the state of every training document of the choice and two of
// every window.
class StatesUnderTest {
 public:
  // Reads every document behind a separator. `choice` outlives this; `progress` is told as
  // Reader::Read tells it. Tokens read: HarvestTokens.
  static absl::StatusOr<std::unique_ptr<const StatesUnderTest>> Harvest(
      const BackboneUnderTest& backbone, const WindowChoice& choice, int foreign_draws,
      uint64_t seed, const Reader::Progress& progress);
  static int64_t HarvestTokens(const WindowChoice& choice);

  const WindowChoice& choice() const { return choice_; }
  int foreign_draws() const { return foreign_draws_; }
  const state::Shape& shape() const { return shape_; }
  // Documents of the label that has the fewest.
  int fewest_documents() const;

  // Of window `index`'s own text, before and after the separator.
  const Harvested& OwnBefore(size_t index) const { return own_before_[index]; }
  const Harvested& OwnAfter(size_t index) const { return own_after_[index]; }
  // Which training document of the window's label lends its state, and that state, after the
  // separator. Different documents draw by draw, as far as there are so many.
  int32_t ForeignDocument(size_t index, int draw) const { return foreign_[index][draw]; }
  const Harvested& Foreign(size_t index, int draw) const {
    return after_[LabelOf(index)][ForeignDocument(index, draw)];
  }
  // Of the choice's training documents of a label, after the separator.
  const std::vector<Harvested>& OfLabel(int32_t label) const { return after_[label]; }
  // That of a document of another label.
  const Harvested& WrongLabel(size_t index) const {
    return after_[wrong_[index].label][wrong_[index].document];
  }

  // Means over the training documents of the window's label: of the states after the separator, and
  // of those before it.
  const Harvested& ClassMean(size_t index) const { return mean_after_[LabelOf(index)]; }
  const Harvested& ClassMeanBefore(size_t index) const { return mean_before_[LabelOf(index)]; }
  // The mean of the class means.
  const Harvested& GlobalMean() const { return global_mean_; }
  // The mean shift vectors [L][2][D] of the training documents' states after the separator.
  const std::vector<float>& ConstantShift() const { return constant_shift_; }
  // The mean of the states after the separator of `count` documents of the window's label.
  Harvested Soup(size_t index, int count) const;
  // OwnAfter with its entries shuffled.
  Harvested ShuffledOwn(size_t index) const;

 private:
  struct Lender {
    int32_t label = 0, document = 0;
  };

  StatesUnderTest(const BackboneUnderTest& backbone, const WindowChoice& choice, int foreign_draws,
                  uint64_t seed);
  int32_t LabelOf(size_t index) const { return choice_.windows[index].label; }
  // Which documents lend their states to which window.
  void DrawLenders();
  absl::Status HarvestLabels(const BackboneUnderTest& backbone, const Reader::Progress& progress);

  const WindowChoice& choice_;
  const int foreign_draws_;
  const uint64_t seed_;
  const state::Shape shape_;
  std::vector<std::vector<int32_t>> foreign_;        // [windows][draws]
  std::vector<Lender> wrong_;                        // [windows]
  std::vector<Harvested> own_before_, own_after_;    // [windows]
  std::vector<std::vector<Harvested>> after_;        // [labels][documents]
  std::vector<Harvested> mean_before_, mean_after_;  // [labels]
  Harvested global_mean_;
  std::vector<float> constant_shift_;  // [L][2][D]
};

}  // namespace dreamstate::evaluation
