#include "core/evaluation/state_conditions.h"

#include <utility>

#include "core/base/strings.h"

namespace dreamstate::evaluation {
namespace {

constexpr int kSoups[] = {2, 4, 16};
constexpr int kPrompts[] = {16, 64, 256};

// The separator, the last `tokens` of a text, and another separator.
Reading Prompt(int32_t separator, const std::vector<int32_t>& text, int tokens, bool separated) {
  Reading reading = {.context = {separator}};
  reading.context.insert(reading.context.end(), text.end() - tokens, text.end());
  if (separated) reading.context.push_back(separator);
  return reading;
}

class ConditionMaker {
 public:
  ConditionMaker(const StatesUnderTest& states, int32_t separator)
      : states_(states), separator_(separator) {}

  // As a server would use the state: with all that is in its record.
  ConditionSection Served() const {
    const StatesUnderTest& s = states_;
    ConditionSection section;
    std::vector<StateCondition>& list = section.conditions;
    list.push_back(Known("own_before", "own state, before the separator", 1,
                         [&s](size_t i, int) { return &s.OwnBefore(i); }));
    list.push_back(Known("own_after", "own state, after the separator", 1,
                         [&s](size_t i, int) { return &s.OwnAfter(i); }));
    list.push_back(Known("foreign", "another document's state, same label", s.foreign_draws(),
                         [&s](size_t i, int draw) { return &s.Foreign(i, draw); }));
    list.push_back(Made("foreign_separator", "the same, the separator read once more", 1,
                        [&s](size_t i, int) { return s.Foreign(i, 0); }));
    list.push_back(
        Made("class_mean", "class mean", 1, [&s](size_t i, int) { return s.ClassMean(i); }));
    list.push_back(Made("class_mean_before", "class mean, states before the separator", 1,
                        [&s](size_t i, int) { return s.ClassMeanBefore(i); }));
    for (const int count : kSoups) {
      if (count > s.fewest_documents()) continue;
      list.push_back(Made(StrCat("soup_", count), StrCat("mean of ", count, " states, same label"),
                          1, [&s, count](size_t i, int) { return s.Soup(i, count); }));
    }
    list.push_back(Known("wrong_label", "another document's state, wrong label", 1,
                         [&s](size_t i, int) { return &s.WrongLabel(i); }));
    list.push_back(Made("global_mean", "mean of all class means", 1,
                        [&s](size_t, int) { return s.GlobalMean(); }));
    list.push_back(Made("shuffled", "own state, entries shuffled", 1,
                        [&s](size_t i, int) { return s.ShuffledOwn(i); }));
    return section;
  }

  ConditionSection Prompts() const {
    ConditionSection section = {.title = "text as a prompt instead of a state", .conditions = {}};
    const WindowChoice& choice = states_.choice();
    const size_t longest = choice.windows.front().context.size();
    for (const int tokens : kPrompts) {
      if (static_cast<size_t>(tokens) > longest) continue;
      section.conditions.push_back(
          {StrCat("own_prompt_", tokens), StrCat("last ", tokens, " tokens of its own text"), 1,
           tokens + 1,
           [tokens, &choice, separator = separator_](size_t i, int, std::list<Harvested>&) {
             return Prompt(separator, choice.windows[i].context, tokens, false);
           }});
    }
    for (const int tokens : kPrompts) {
      if (static_cast<size_t>(tokens) > longest) continue;
      section.conditions.push_back(
          {StrCat("foreign_prompt_", tokens),
           StrCat(tokens, " tokens of another document, separator"), 1, tokens + 2,
           [tokens, &states = states_, &choice, separator = separator_](size_t i, int,
                                                                        std::list<Harvested>&) {
             const WindowLabel& label = choice.labels[choice.windows[i].label];
             return Prompt(separator, label.documents[states.ForeignDocument(i, 0)], tokens, true);
           }});
    }
    return section;
  }

  // The prototype's convention (science.md, table C2).
  ConditionSection ConstantShift() const {
    const StatesUnderTest& s = states_;
    const std::vector<float> none(s.shape().shift_elements());
    const auto constant = [&s](const Harvested& one) {
      return WithShift(one.state, s.ConstantShift());
    };
    ConditionSection section = {.title = "states after the separator with constant shift vectors",
                                .conditions = {}};
    std::vector<StateCondition>& list = section.conditions;
    list.push_back(Made("own_constant_shift", "own state", 1,
                        [=, &s](size_t i, int) { return constant(s.OwnAfter(i)); }));
    list.push_back(Made("own_zero_shift", "own state, zero shift", 1,
                        [=, &s](size_t i, int) { return WithShift(s.OwnAfter(i).state, none); }));
    list.push_back(Made("zero_constant_shift", "zero matrices", 1, [=, &s](size_t, int) {
      return WithShift(state::State::Empty(s.shape()), s.ConstantShift());
    }));
    list.push_back(Made("foreign_constant_shift", "another document's state, same label",
                        s.foreign_draws(),
                        [=, &s](size_t i, int draw) { return constant(s.Foreign(i, draw)); }));
    list.push_back(Made("foreign_zero_shift", "another document's state, zero shift", 1,
                        [=, &s](size_t i, int) { return WithShift(s.Foreign(i, 0).state, none); }));
    list.push_back(Made("class_mean_constant_shift", "class mean", 1,
                        [=, &s](size_t i, int) { return constant(s.ClassMean(i)); }));
    for (const int count : kSoups) {
      if (count > s.fewest_documents()) continue;
      list.push_back(Made(StrCat("soup_", count, "_constant_shift"),
                          StrCat("mean of ", count, " states, same label"), 1,
                          [=, &s](size_t i, int) { return constant(s.Soup(i, count)); }));
    }
    list.push_back(Made("wrong_label_constant_shift", "another document's state, wrong label", 1,
                        [=, &s](size_t i, int) { return constant(s.WrongLabel(i)); }));
    list.push_back(Made("global_mean_constant_shift", "mean of all class means", 1,
                        [=, &s](size_t, int) { return constant(s.GlobalMean()); }));
    list.push_back(Made("shuffled_constant_shift", "own state, entries shuffled", 1,
                        [=, &s](size_t i, int) { return constant(s.ShuffledOwn(i)); }));
    return section;
  }

 private:
  // A state that a text left: the first token is predicted from it.
  template <typename Pick>
  StateCondition Known(std::string id, std::string name, int draws, Pick pick) const {
    return {std::move(id), std::move(name), draws, 0,
            [pick](size_t index, int draw, std::list<Harvested>&) {
              return Reading{.from = pick(index, draw), .context = {}};
            }};
  }
  // A state that nothing left: it reads the separator first.
  template <typename Make>
  StateCondition Made(std::string id, std::string name, int draws, Make make) const {
    return {std::move(id), std::move(name), draws, 1,
            [make, separator = separator_](size_t index, int draw, std::list<Harvested>& made) {
              made.push_back(make(index, draw));
              return Reading{.from = &made.back(), .context = {separator}};
            }};
  }
  const StatesUnderTest& states_;
  const int32_t separator_;
};

}  // namespace

StateCondition ZeroCondition(int32_t separator) {
  return {.id = "zero",
          .name = "zero state",
          .context_tokens = 1,
          .make = [separator](size_t, int, std::list<Harvested>&) {
            return Reading{.context = {separator}};
          }};
}

std::vector<ConditionSection> MakeConditions(const StatesUnderTest& states, int32_t separator) {
  const ConditionMaker maker(states, separator);
  return {maker.Served(), maker.Prompts(), maker.ConstantShift()};
}

}  // namespace dreamstate::evaluation
