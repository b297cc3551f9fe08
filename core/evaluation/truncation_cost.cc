#include "core/evaluation/truncation_cost.h"

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/state_codec.h"
#include "core/evaluation/coded_state.h"
#include "core/evaluation/truncation.h"

namespace dreamstate::evaluation {
namespace {

using diffusion::StateCodec;

constexpr int kRanks[] = {1, 2, 4, 8, 16, 32};
constexpr std::string_view kOwn = "own";

// The errors of a row's states.
struct Errors {
  double sum = 0;
  int count = 0;
};
using ErrorsById = std::map<std::string, Errors, std::less<>>;

// The codec of the choice's training documents, label after label.
absl::StatusOr<StateCodec> FitCodec(const StatesUnderTest& states) {
  std::vector<float> wkv, shift;
  for (size_t label = 0; label < states.choice().labels.size(); ++label) {
    for (const Harvested& one : states.OfLabel(static_cast<int32_t>(label))) {
      wkv.insert(wkv.end(), one.state.wkv.begin(), one.state.wkv.end());
      shift.insert(shift.end(), one.state.shift.begin(), one.state.shift.end());
    }
  }
  return StateCodec::Fit(states.shape(), wkv, shift);
}

class RowMaker {
 public:
  RowMaker(const StatesUnderTest& states, int32_t separator, ErrorsById* errors)
      : states_(states), separator_(separator), errors_(errors) {}

  absl::StatusOr<std::vector<ConditionSection>> Make() const {
    DS_ASSIGN_OR_RETURN(StateCodec fitted, FitCodec(states_));
    const auto codec = std::make_shared<const StateCodec>(std::move(fitted));
    return std::vector<ConditionSection>{Whole(),  Ranks(), Codec(codec),
                                         Layers(), Sizes(), Controls()};
  }

 private:
  using State = state::State;

  // A row of what becomes of the own state.
  template <typename Change>
  StateCondition Row(std::string id, std::string name, Change change) const {
    return Made(std::move(id), std::move(name),
                [&states = states_, change](size_t i) { return change(states.OwnAfter(i).state); });
  }
  // A row of states that are made for a window: they get the constant shift vectors, read the
  // separator, and their errors are counted.
  template <typename Maker>
  StateCondition Made(std::string id, std::string name, Maker make) const {
    Errors* const errors = &(*errors_)[id];
    return {.id = std::move(id),
            .name = std::move(name),
            .context_tokens = 1,
            .make = [&states = states_, separator = separator_, errors, make](
                        size_t i, int, std::list<Harvested>& made) {
              made.push_back(WithShift(make(i), states.ConstantShift()));
              errors->sum += RelativeError(made.back().state, states.OwnAfter(i).state);
              ++errors->count;
              return Reading{.from = &made.back(), .context = {separator}};
            }};
  }

  ConditionSection Whole() const {
    ConditionSection section = {.title = "", .conditions = {}};
    section.conditions.push_back(
        Row(std::string(kOwn), "own state", [](const State& own) { return own; }));
    return section;
  }

  ConditionSection Ranks() const {
    ConditionSection section = {.title = "the strongest singular values of each head",
                                .conditions = {}};
    // Found once for all ranks.
    const auto directions =
        std::make_shared<std::vector<std::vector<float>>>(states_.choice().windows.size());
    for (const int rank : kRanks) {
      if (rank > states_.shape().head_size) continue;
      section.conditions.push_back(Made(StrCat("rank_", rank), StrCat("rank ", rank),
                                        [&states = states_, directions, rank](size_t i) {
                                          const State& own = states.OwnAfter(i).state;
                                          std::vector<float>& known = (*directions)[i];
                                          if (known.empty()) known = KeyDirections(own);
                                          return OfRank(own, known, rank);
                                        }));
    }
    return section;
  }

  ConditionSection Codec(const std::shared_ptr<const StateCodec>& codec) const {
    ConditionSection section = {.title = "through the codec", .conditions = {}};
    for (int blocks = 1; blocks <= codec->blocks(); ++blocks) {
      section.conditions.push_back(
          Row(StrCat("codec_", blocks), StrCat("strongest ", blocks, " of 4 blocks of a head"),
              [codec, blocks](const State& own) { return Coded(*codec, own, blocks); }));
    }
    return section;
  }

  ConditionSection Layers() const {
    ConditionSection section = {.title = "layers", .conditions = {}};
    for (int layer = 0; layer < states_.shape().layers; ++layer) {
      section.conditions.push_back(
          Row(StrCat("only_layer_", layer), StrCat("only layer ", layer),
              [layer](const State& own) { return OnlyLayer(own, layer); }));
    }
    for (int layer = 0; layer < states_.shape().layers; ++layer) {
      section.conditions.push_back(
          Row(StrCat("without_layer_", layer), StrCat("without layer ", layer),
              [layer](const State& own) { return WithoutLayer(own, layer); }));
    }
    return section;
  }

  ConditionSection Sizes() const {
    ConditionSection section = {.title = "scale and bits", .conditions = {}};
    section.conditions.push_back(
        Row("half", "times 0.5", [](const State& own) { return Scaled(own, 0.5f); }));
    section.conditions.push_back(
        Row("double", "times 2", [](const State& own) { return Scaled(own, 2); }));
    section.conditions.push_back(Row("four_bit_rows", "4-bit rows", FourBitRows));
    section.conditions.push_back(Row("ternary_rows", "ternary rows, of the largest", TernaryRows));
    section.conditions.push_back(
        Row("ternary_rows_by_mean", "ternary rows, of the mean", TernaryRowsByMean));
    return section;
  }

  ConditionSection Controls() const {
    ConditionSection section = {.title = "controls", .conditions = {}};
    const StatesUnderTest& states = states_;
    section.conditions.push_back(Made("class_mean", "class mean",
                                      [&states](size_t i) { return states.ClassMean(i).state; }));
    section.conditions.push_back(Made("foreign", "another document's state, same label",
                                      [&states](size_t i) { return states.Foreign(i, 0).state; }));
    section.conditions.push_back(Made("shuffled", "own state, entries shuffled",
                                      [&states](size_t i) { return states.ShuffledOwn(i).state; }));
    return section;
  }

  const StatesUnderTest& states_;
  const int32_t separator_;
  ErrorsById* const errors_;
};

// What of the own state's bits a row saves, window by window.
Group SharesOf(const StateWorth& row, const StateWorth& own) {
  Group shares;
  for (size_t i = 0; i < row.by_window.size(); ++i) {
    shares.push_back({row.by_window[i].sum, own.by_window[i].sum});
  }
  return shares;
}

std::string ShowShareFinely(double share) { return absl::StrFormat("%.1f %%", 100 * share); }
std::string ShowError(double error) { return absl::StrFormat("%.2f", error); }

}  // namespace

const TruncatedWorth* TruncationCost::Find(std::string_view id) const {
  for (const TruncatedWorth& one : worth) {
    if (one.id == id) return &one;
  }
  return nullptr;
}

absl::StatusOr<TruncationCost> MeasureTruncation(const BackboneUnderTest& backbone,
                                                 const StateUseOptions& options) {
  ErrorsById errors;
  TruncationCost cost;
  DS_ASSIGN_OR_RETURN(cost.use,
                      MeasureStateUse(backbone, options, [&](const StatesUnderTest& states) {
                        return RowMaker(states, backbone.separator, &errors).Make();
                      }));
  const StateWorth& own = *cost.use.Find(kOwn);
  for (const StateSection& section : cost.use.sections) {
    for (const StateWorth& row : section.states) {
      const Group shares = SharesOf(row, own);
      const Errors& error = errors[row.id];
      cost.worth.push_back({.id = row.id,
                            .share = MeanOf(shares),
                            .interval = IntervalOf(shares, options.bootstrap),
                            .error = error.sum / error.count});
    }
  }
  return cost;
}

Table TruncationTable(const TruncationCost& cost, const StateUseOptions& options) {
  const StateUse& use = cost.use;
  const std::string interval = StrCat(100 * options.bootstrap.confidence, " % interval");
  Table table;
  table.title = StrCat("What of a state's worth is left: bits saved per byte over the zero state (",
                       ShowBits(use.zero_bits_per_byte), ") on the next ", options.windows.length,
                       " tokens, states at token ", options.windows.position, ", ", use.windows,
                       " ", training::SplitName(options.windows.split), " documents of ",
                       use.labels.size(), " domains");
  table.columns = {"state", "error", "saved", interval, "of own", interval, "helped"};
  for (const StateSection& section : use.sections) {
    if (!section.title.empty()) table.rows.push_back({section.title});
    for (const StateWorth& row : section.states) {
      const TruncatedWorth& worth = *cost.Find(row.id);
      table.rows.push_back({row.name, ShowError(worth.error), ShowSigned(row.saved.per_byte),
                            ShowInterval(row.saved.interval, ShowSigned),
                            ShowShareFinely(worth.share),
                            ShowInterval(worth.interval, ShowShareFinely), ShowShare(row.helped)});
    }
  }
  table.notes = {
      StrCat("Error: |made - own| / |own| of the matrices. Intervals: bootstrap over documents, ",
             options.bootstrap.resamples,
             " resamples. All states have the mean shift vectors and read the separator first."),
      StrCat("The codec, the class mean and the other documents come from the training split, up "
             "to ",
             options.windows.label_documents, " documents a domain.")};
  return table;
}

nlohmann::ordered_json TruncationJson(const TruncationCost& cost, const StateUseOptions& options) {
  nlohmann::ordered_json json = StateUseJson(cost.use, options);
  for (const TruncatedWorth& worth : cost.worth) {
    nlohmann::ordered_json& row = json["states"][worth.id];
    row["share"] = worth.share;
    row["share_interval"] = {worth.interval.low, worth.interval.high};
    row["error"] = worth.error;
  }
  return json;
}

}  // namespace dreamstate::evaluation
