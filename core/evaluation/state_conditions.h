// The rows of the state-use table: from which state, behind which tokens, a window is read.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "core/evaluation/reader.h"
#include "core/evaluation/states_under_test.h"

namespace dreamstate::evaluation {

struct StateCondition {
  std::string id;          // "class_mean"
  std::string name;        // for people
  int draws = 1;           // states tried on each window
  int context_tokens = 0;  // that its readings have
  // The reading of a window, without what is scored. `made` keeps states that are made for it.
  std::function<Reading(size_t window, int draw, std::list<Harvested>& made)> make;
};

struct ConditionSection {
  std::string title;  // empty for the served ones
  std::vector<StateCondition> conditions;
};

// What the others are measured against: the separator, then the window.
StateCondition ZeroCondition(int32_t separator);

// All rows, section by section. A mean of more documents than every label has, and a prompt that is
// longer than the windows' contexts, are left out. `states` outlives the conditions.
std::vector<ConditionSection> MakeConditions(const StatesUnderTest& states, int32_t separator);

}  // namespace dreamstate::evaluation
