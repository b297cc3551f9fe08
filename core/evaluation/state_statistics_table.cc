#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/strings.h"
#include "core/evaluation/state_statistics.h"

namespace dreamstate::evaluation {
namespace {

// A column of the table, and a key of the JSON.
struct Column {
  const char* id;
  const char* name;
  double HeadStatistics::*value;
  std::string (*show)(double);
};

std::string Plain(double value) { return absl::StrFormat("%.2f", value); }
std::string Short(double value) { return absl::StrFormat("%.1f", value); }

constexpr Column kColumns[] = {
    {"rms", "RMS", &HeadStatistics::rms, Plain},
    {"norm_variation", "CV of norm", &HeadStatistics::norm_variation, Plain},
    {"spectral_norm", "spectral norm", &HeadStatistics::spectral_norm, Short},
    {"stable_rank", "stable rank", &HeadStatistics::stable_rank, Plain},
    {"first_energy", "first value", &HeadStatistics::first_energy, ShowShare},
    {"gauge_energy", "gauge", &HeadStatistics::gauge_energy, ShowShare},
    {"mean_energy", "mean", &HeadStatistics::mean_energy, ShowShare},
    {"kurtosis", "kurtosis", &HeadStatistics::kurtosis, Short},
    {"purity", "purity", &HeadStatistics::purity, ShowShare},
};

}  // namespace

Table StateStatisticsTable(const StateStatistics& statistics, const StateChoice& choice) {
  Table table;
  table.title = StrCat("Heads of the states after the separator at token ", choice.position, ", ",
                       statistics.states, " ", training::SplitName(choice.split), " documents of ",
                       statistics.labels, " domains");
  table.columns = {"head"};
  for (const Column& column : kColumns) table.columns.emplace_back(column.name);
  for (int layer = 0; layer < statistics.shape.layers; ++layer) {
    for (int head = 0; head < statistics.shape.heads; ++head) {
      std::vector<std::string> row = {StrCat("layer ", layer, " head ", head)};
      for (const Column& column : kColumns) {
        row.push_back(column.show(statistics.At(layer, head).*column.value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  table.notes = {
      "First value, gauge, mean: shares of the energy, of the first singular value, of what no "
      "output sees, and (without that) of the mean of all states. Kurtosis: of the entries; 3 for "
      "a "
      "normal distribution.",
      StrCat("Purity: share of a state's ", statistics.neighbours,
             " nearest others by this head alone that have its label; ",
             ShowShare(statistics.chance), " by chance, ", ShowShare(statistics.purity),
             " by all heads together.")};
  return table;
}

nlohmann::ordered_json StateStatisticsJson(const StateStatistics& statistics,
                                           const StateChoice& choice) {
  nlohmann::ordered_json heads = nlohmann::ordered_json::array();
  for (int layer = 0; layer < statistics.shape.layers; ++layer) {
    for (int head = 0; head < statistics.shape.heads; ++head) {
      nlohmann::ordered_json one = {{"layer", layer}, {"head", head}};
      for (const Column& column : kColumns) {
        one[column.id] = statistics.At(layer, head).*column.value;
      }
      heads.push_back(std::move(one));
    }
  }
  return {{"split", std::string(training::SplitName(choice.split))},
          {"position", choice.position},
          {"seed", choice.seed},
          {"states", statistics.states},
          {"labels", statistics.labels},
          {"neighbours", statistics.neighbours},
          {"purity", statistics.purity},
          {"chance", statistics.chance},
          {"heads", std::move(heads)}};
}

}  // namespace dreamstate::evaluation
