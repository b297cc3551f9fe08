#include "core/evaluation/states_under_test.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/base/status.h"

namespace dreamstate::evaluation {
namespace {

constexpr uint32_t kForeignStream = 0x464f5245;  // "FORE"
constexpr uint32_t kWrongStream = 0x57524f4e;    // "WRON"
constexpr uint32_t kSoupStream = 0x534f5500;     // "SOU", then the count
constexpr uint32_t kShuffleStream = 0x53485546;  // "SHUF"

struct BothSides {
  std::vector<Harvested> before, after;
};

// The states behind a separator and these texts, and behind one more separator.
absl::StatusOr<BothSides> HarvestTexts(const BackboneUnderTest& backbone,
                                       std::span<const std::vector<int32_t>* const> texts,
                                       const Reader::Progress& progress) {
  const auto harvest = [&](std::span<const Reading> readings,
                           std::vector<Harvested>* out) -> absl::Status {
    DS_ASSIGN_OR_RETURN(std::vector<ReadResult> results, backbone.reader.Read(readings, progress));
    for (ReadResult& result : results) out->push_back(std::move(result.harvested));
    return absl::OkStatus();
  };
  std::vector<Reading> readings;
  for (const std::vector<int32_t>* text : texts) {
    Reading& reading = readings.emplace_back();
    reading.context = {backbone.separator};
    reading.context.insert(reading.context.end(), text->begin(), text->end());
    reading.harvest = true;
  }
  BothSides states;
  DS_RETURN_IF_ERROR(harvest(readings, &states.before));
  for (size_t i = 0; i < readings.size(); ++i) {
    readings[i] = {.from = &states.before[i], .context = {backbone.separator}, .harvest = true};
  }
  DS_RETURN_IF_ERROR(harvest(readings, &states.after));
  return states;
}

}  // namespace

StatesUnderTest::StatesUnderTest(const BackboneUnderTest& backbone, const WindowChoice& choice,
                                 int foreign_draws, uint64_t seed)
    : choice_(choice),
      foreign_draws_(foreign_draws),
      seed_(seed),
      shape_(state::Shape::Of(backbone.reader.config())) {}

absl::StatusOr<std::unique_ptr<const StatesUnderTest>> StatesUnderTest::Harvest(
    const BackboneUnderTest& backbone, const WindowChoice& choice, int foreign_draws, uint64_t seed,
    const Reader::Progress& progress) {
  std::unique_ptr<StatesUnderTest> states(
      new StatesUnderTest(backbone, choice, foreign_draws, seed));
  states->DrawLenders();
  DS_RETURN_IF_ERROR(states->HarvestLabels(backbone, progress));
  std::vector<const std::vector<int32_t>*> texts;
  for (const Window& window : choice.windows) texts.push_back(&window.context);
  DS_ASSIGN_OR_RETURN(BothSides own, HarvestTexts(backbone, texts, progress));
  states->own_before_ = std::move(own.before);
  states->own_after_ = std::move(own.after);
  return states;
}

int64_t StatesUnderTest::HarvestTokens(const WindowChoice& choice) {
  int64_t tokens = 0;
  constexpr int64_t kSeparators = 2;
  const auto add = [&tokens](const std::vector<int32_t>& text) {
    tokens += static_cast<int64_t>(text.size()) + kSeparators;
  };
  for (const WindowLabel& label : choice.labels) {
    for (const std::vector<int32_t>& document : label.documents) add(document);
  }
  for (const Window& window : choice.windows) add(window.context);
  return tokens;
}

int StatesUnderTest::fewest_documents() const {
  size_t fewest = choice_.labels.front().documents.size();
  for (const WindowLabel& label : choice_.labels) fewest = std::min(fewest, label.documents.size());
  return static_cast<int>(fewest);
}

void StatesUnderTest::DrawLenders() {
  const auto labels = static_cast<uint32_t>(choice_.labels.size());
  for (size_t index = 0; index < choice_.windows.size(); ++index) {
    const auto number = static_cast<uint32_t>(index);
    const int32_t label = LabelOf(index);
    const auto documents = static_cast<int32_t>(choice_.labels[label].documents.size());
    Draws foreign(seed_, kForeignStream, number);
    std::vector<int32_t>& chosen = foreign_.emplace_back();
    while (static_cast<int>(chosen.size()) < foreign_draws_) {
      const std::vector<int32_t> more =
          foreign.Choose(foreign_draws_ - static_cast<int32_t>(chosen.size()), documents);
      chosen.insert(chosen.end(), more.begin(), more.end());
    }
    Draws wrong(seed_, kWrongStream, number);
    const uint32_t other = (static_cast<uint32_t>(label) + 1 + wrong.Below(labels - 1)) % labels;
    const auto others = static_cast<uint32_t>(choice_.labels[other].documents.size());
    wrong_.push_back({static_cast<int32_t>(other), static_cast<int32_t>(wrong.Below(others))});
  }
}

absl::Status StatesUnderTest::HarvestLabels(const BackboneUnderTest& backbone,
                                            const Reader::Progress& progress) {
  MeanState global(shape_), all(shape_);
  for (const WindowLabel& label : choice_.labels) {
    std::vector<const std::vector<int32_t>*> texts;
    for (const std::vector<int32_t>& document : label.documents) texts.push_back(&document);
    DS_ASSIGN_OR_RETURN(BothSides states, HarvestTexts(backbone, texts, progress));
    MeanState before(shape_), after(shape_);
    for (const Harvested& one : states.before) before.Add(one.state);
    for (const Harvested& one : states.after) {
      after.Add(one.state);
      all.Add(one.state);
    }
    mean_before_.push_back(before.Mean());
    mean_after_.push_back(after.Mean());
    global.Add(mean_after_.back().state);
    after_.push_back(std::move(states.after));
  }
  global_mean_ = global.Mean();
  constant_shift_ = all.Mean().state.shift;
  return absl::OkStatus();
}

Harvested StatesUnderTest::Soup(size_t index, int count) const {
  const std::vector<Harvested>& documents = after_[LabelOf(index)];
  Draws draws(seed_, kSoupStream + static_cast<uint32_t>(count), static_cast<uint32_t>(index));
  MeanState mean(shape_);
  for (const int32_t document : draws.Choose(count, static_cast<int32_t>(documents.size()))) {
    mean.Add(documents[document].state);
  }
  return mean.Mean();
}

Harvested StatesUnderTest::ShuffledOwn(size_t index) const {
  Draws draws(seed_, kShuffleStream, static_cast<uint32_t>(index));
  return Shuffled(own_after_[index].state, draws);
}

}  // namespace dreamstate::evaluation
