// What an initial state is worth: bits saved per byte over the zero state on the tokens that follow
// in test documents (design: science.md points 1, 3, 6, 9 and table C). Every row scores the same
// tokens of the same windows, the first token too:
//   - the zero state reads the separator, then the window;
//   - a state that a text left (own, foreign, wrong label) carries its own shift vectors and its
//     last hidden vector, which predicts the first token, as a stored record does when served;
//   - a state that nothing left (averages, shuffled entries, other shift vectors) has none: it
//     reads the separator first, as served.
// States are taken after the first `position` tokens of a document, read behind a separator; "after
// the separator" means that one more was read, so that the state is ready to begin a text.
//
// The rows "constant shift" give every state the mean shift vectors of the training documents'
// states after the separator, as the prototype's table C2 did.
//
// Controls that must fail for a backbone whose states carry anything: shuffled entries and the
// wrong label save less than nothing, a foreign state less than the own one. (The model of
// tests/core/evaluation is one; a backbone that is hardly trained is not.) Paired: each window is
// its own reference; intervals resample documents.
//
// Memory: the states of all labels' training documents are held, labels * label_documents of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/bootstrap.h"
#include "core/evaluation/state_conditions.h"
#include "core/evaluation/states_under_test.h"
#include "core/evaluation/table.h"
#include "core/evaluation/windows.h"
#include "nlohmann/json.hpp"

namespace dreamstate::evaluation {

struct StateUseOptions {
  WindowOptions windows;
  int foreign_draws = 3;  // other documents' states tried on each window
  BootstrapOptions bootstrap;
};

// Tokens [from, to) of a window.
struct Distance {
  int from = 0, to = 0;
};

struct SavedBits {
  double per_byte = 0;  // over the zero state; negative: the state harms
  Interval interval;
};

struct StateWorth {
  std::string id;    // "class_mean"
  std::string name;  // for people
  int draws = 1;     // states tried on each window; their mean counts
  SavedBits saved;
  std::vector<SavedBits> by_distance;  // [StateUse::distances]
  double helped = 0;                   // share of windows, and of draws, that got cheaper
  std::vector<double> by_draw;         // [draws], bits saved per byte
  std::vector<double> by_label;        // [StateUse::labels], bits saved per byte
  Group by_window;                     // [windows], bits saved (mean of the draws) and bytes
};

struct StateSection {
  std::string title;  // empty for the served ones
  std::vector<StateWorth> states;
};

struct StateUse {
  std::vector<std::string> labels;
  std::vector<int> label_windows;     // [labels]
  std::vector<std::string> left_out;  // trained labels whose documents are too short or too few
  int windows = 0;
  std::vector<Distance> distances;
  double zero_bits_per_byte = 0;
  std::vector<double> zero_by_distance;  // [distances]
  std::vector<double> zero_by_label;     // [labels]
  std::vector<StateSection> sections;

  // Null when there is none of that id.
  const StateWorth* Find(std::string_view id) const;
};

// As ChooseWindows; INVALID_ARGUMENT for foreign_draws < 1.
absl::StatusOr<StateUse> MeasureStateUse(const BackboneUnderTest& backbone,
                                         const StateUseOptions& options);
// The same with other rows than MakeConditions'.
using ConditionsMaker =
    std::function<absl::StatusOr<std::vector<ConditionSection>>(const StatesUnderTest&)>;
absl::StatusOr<StateUse> MeasureStateUse(const BackboneUnderTest& backbone,
                                         const StateUseOptions& options,
                                         const ConditionsMaker& make);

Table StateUseTable(const StateUse& use, const StateUseOptions& options);
// The main states, label by label.
Table StateUseByLabelTable(const StateUse& use);
nlohmann::ordered_json StateUseJson(const StateUse& use, const StateUseOptions& options);

}  // namespace dreamstate::evaluation
