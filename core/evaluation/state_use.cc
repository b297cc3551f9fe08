#include "core/evaluation/state_use.h"

#include <algorithm>
#include <list>
#include <memory>
#include <numbers>
#include <numeric>
#include <span>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::evaluation {
namespace {

// Where the prototype's tables cut (science.md, table C).
constexpr int kCuts[] = {16, 64, 256};

std::vector<Distance> DistancesOf(int length) {
  std::vector<Distance> distances;
  int from = 0;
  for (const int cut : kCuts) {
    const int to = std::min(cut, length);
    if (to > from) distances.push_back({from, to});
    from = std::max(from, to);
  }
  if (length > from) distances.push_back({from, length});
  return distances;
}

double BitsBetween(std::span<const float> nll, const Distance& distance) {
  const auto begin = nll.begin() + distance.from, end = nll.begin() + distance.to;
  return std::accumulate(begin, end, 0.0) / std::numbers::ln2;
}

class Measurement {
 public:
  Measurement(const BackboneUnderTest& backbone, const StateUseOptions& options,
              const ConditionsMaker& make, const WindowChoice& choice)
      : backbone_(backbone), options_(options), make_(make), choice_(choice) {
    use_.windows = static_cast<int>(choice.windows.size());
    use_.left_out = choice.left_out;
    use_.label_windows.resize(choice.labels.size());
    for (const Window& window : choice.windows) ++use_.label_windows[window.label];
    for (const WindowLabel& label : choice.labels) use_.labels.push_back(label.name);
    use_.distances = DistancesOf(options.windows.length);
  }

  absl::StatusOr<StateUse> Run() {
    total_ = StatesUnderTest::HarvestTokens(choice_);
    Told("states", 0);
    DS_ASSIGN_OR_RETURN(
        const std::unique_ptr<const StatesUnderTest> states,
        StatesUnderTest::Harvest(backbone_, choice_, options_.foreign_draws, options_.windows.seed,
                                 [this](int64_t tokens) { Told("states", tokens); }));
    const StateCondition zero = ZeroCondition(backbone_.separator);
    DS_ASSIGN_OR_RETURN(const std::vector<ConditionSection> sections, make_(*states));
    done_ = 0;
    total_ = TokensOf(zero);
    for (const ConditionSection& section : sections) {
      for (const StateCondition& condition : section.conditions) total_ += TokensOf(condition);
    }
    Told("state use", 0);
    DS_ASSIGN_OR_RETURN(zero_bits_, BitsOf(zero, 0));
    DescribeZero();
    for (const ConditionSection& section : sections) {
      StateSection& measured = use_.sections.emplace_back();
      measured.title = section.title;
      for (const StateCondition& condition : section.conditions) {
        DS_ASSIGN_OR_RETURN(StateWorth worth, WorthOf(condition));
        measured.states.push_back(std::move(worth));
      }
    }
    return std::move(use_);
  }

 private:
  using Bits = std::vector<std::vector<double>>;  // [windows][distances]

  size_t windows() const { return choice_.windows.size(); }

  void Told(std::string_view stage, int64_t tokens) {
    done_ += tokens;
    if (backbone_.progress) backbone_.progress(stage, done_, total_);
  }

  int64_t TokensOf(const StateCondition& condition) const {
    const int64_t tokens = condition.context_tokens + options_.windows.length - 1;
    return static_cast<int64_t>(windows()) * condition.draws * tokens;
  }

  // What the windows cost.
  absl::StatusOr<Bits> BitsOf(const StateCondition& condition, int draw) {
    // Made states are large: not of all windows at once.
    constexpr size_t kAtOnce = 64;
    Bits bits;
    for (size_t begin = 0; begin < windows(); begin += kAtOnce) {
      std::list<Harvested> made;
      std::vector<Reading> readings;
      for (size_t i = begin; i < std::min(begin + kAtOnce, windows()); ++i) {
        readings.push_back(condition.make(i, draw, made));
        readings.back().scored = choice_.windows[i].scored;
      }
      DS_ASSIGN_OR_RETURN(
          const std::vector<ReadResult> results,
          backbone_.reader.Read(readings, [this](int64_t tokens) { Told("state use", tokens); }));
      for (const ReadResult& result : results) {
        std::vector<double>& sums = bits.emplace_back();
        for (const Distance& distance : use_.distances) {
          sums.push_back(BitsBetween(result.nll, distance));
        }
      }
    }
    return bits;
  }

  // What `bits` says of each window at one distance.
  Group SamplesAt(const Bits& bits, size_t distance) const {
    const Distance& part = use_.distances[distance];
    Group group;
    for (size_t i = 0; i < windows(); ++i) {
      const std::vector<int32_t>& bytes = choice_.windows[i].bytes;
      group.push_back({bits[i][distance],
                       std::accumulate(bytes.begin() + part.from, bytes.begin() + part.to, 0.0)});
    }
    return group;
  }
  // And at all distances together.
  Group Samples(const Bits& bits) const {
    Group all(windows());
    for (size_t d = 0; d < use_.distances.size(); ++d) {
      const Group part = SamplesAt(bits, d);
      for (size_t i = 0; i < windows(); ++i) {
        all[i].sum += part[i].sum;
        all[i].weight += part[i].weight;
      }
    }
    return all;
  }
  std::vector<double> MeansByLabel(const Group& samples) const {
    std::vector<Group> groups(choice_.labels.size());
    for (size_t i = 0; i < windows(); ++i) {
      groups[choice_.windows[i].label].push_back(samples[i]);
    }
    std::vector<double> means(groups.size());
    std::transform(groups.begin(), groups.end(), means.begin(),
                   [](const Group& group) { return MeanOf(group); });
    return means;
  }

  void DescribeZero() {
    const Group all = Samples(zero_bits_);
    use_.zero_bits_per_byte = MeanOf(all);
    use_.zero_by_label = MeansByLabel(all);
    for (size_t d = 0; d < use_.distances.size(); ++d) {
      use_.zero_by_distance.push_back(MeanOf(SamplesAt(zero_bits_, d)));
    }
  }

  absl::StatusOr<StateWorth> WorthOf(const StateCondition& condition) {
    StateWorth worth;
    worth.id = condition.id;
    worth.name = condition.name;
    worth.draws = condition.draws;
    Bits saved(windows(), std::vector<double>(use_.distances.size()));  // mean of the draws
    int64_t helped = 0;
    for (int draw = 0; draw < condition.draws; ++draw) {
      DS_ASSIGN_OR_RETURN(Bits bits, BitsOf(condition, draw));
      for (size_t i = 0; i < windows(); ++i) {
        double total = 0;
        for (size_t d = 0; d < bits[i].size(); ++d) {
          bits[i][d] = zero_bits_[i][d] - bits[i][d];
          saved[i][d] += bits[i][d] / condition.draws;
          total += bits[i][d];
        }
        helped += total > 0;
      }
      worth.by_draw.push_back(MeanOf(Samples(bits)));
    }
    worth.helped = static_cast<double>(helped) / (use_.windows * condition.draws);
    const auto saved_bits = [this](const Group& samples) {
      return SavedBits{MeanOf(samples), IntervalOf(samples, options_.bootstrap)};
    };
    worth.by_window = Samples(saved);
    worth.saved = saved_bits(worth.by_window);
    worth.by_label = MeansByLabel(worth.by_window);
    for (size_t d = 0; d < use_.distances.size(); ++d) {
      worth.by_distance.push_back(saved_bits(SamplesAt(saved, d)));
    }
    return worth;
  }

  const BackboneUnderTest& backbone_;
  const StateUseOptions& options_;
  const ConditionsMaker& make_;
  const WindowChoice& choice_;
  Bits zero_bits_;
  StateUse use_;
  int64_t done_ = 0, total_ = 0;  // tokens of a stage
};

}  // namespace

const StateWorth* StateUse::Find(std::string_view id) const {
  for (const StateSection& section : sections) {
    for (const StateWorth& worth : section.states) {
      if (worth.id == id) return &worth;
    }
  }
  return nullptr;
}

absl::StatusOr<StateUse> MeasureStateUse(const BackboneUnderTest& backbone,
                                         const StateUseOptions& options) {
  return MeasureStateUse(backbone, options, [&backbone](const StatesUnderTest& states) {
    return MakeConditions(states, backbone.separator);
  });
}

absl::StatusOr<StateUse> MeasureStateUse(const BackboneUnderTest& backbone,
                                         const StateUseOptions& options,
                                         const ConditionsMaker& make) {
  if (options.foreign_draws < 1) {
    return absl::InvalidArgumentError(
        StrCat("foreign_draws: expected at least 1, found ", options.foreign_draws));
  }
  DS_ASSIGN_OR_RETURN(const WindowChoice choice,
                      ChooseWindows(backbone.corpus, backbone.tokenizer, options.windows));
  return Measurement(backbone, options, make, choice).Run();
}

}  // namespace dreamstate::evaluation
