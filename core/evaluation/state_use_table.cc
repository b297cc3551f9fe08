#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/strings.h"
#include "core/evaluation/state_use.h"

namespace dreamstate::evaluation {
namespace {

std::string ShowDistance(const Distance& distance) {
  return StrCat(distance.from, "-", distance.to);
}

nlohmann::ordered_json JsonOf(const SavedBits& saved) {
  return {{"saved", saved.per_byte}, {"interval", {saved.interval.low, saved.interval.high}}};
}

nlohmann::ordered_json JsonOf(const StateWorth& worth, const StateUse& use) {
  nlohmann::ordered_json distances = nlohmann::ordered_json::object();
  for (size_t d = 0; d < use.distances.size(); ++d) {
    distances[ShowDistance(use.distances[d])] = JsonOf(worth.by_distance[d]);
  }
  nlohmann::ordered_json labels = nlohmann::ordered_json::object();
  for (size_t label = 0; label < use.labels.size(); ++label) {
    labels[use.labels[label]] = worth.by_label[label];
  }
  nlohmann::ordered_json json = JsonOf(worth.saved);
  json["helped"] = worth.helped;
  json["draws"] = worth.by_draw;
  json["by_distance"] = std::move(distances);
  json["by_label"] = std::move(labels);
  return json;
}

}  // namespace

Table StateUseTable(const StateUse& use, const StateUseOptions& options) {
  Table table;
  table.title = StrCat(
      "Bits saved per byte over the zero state on the next ", options.windows.length,
      " tokens, states at token ", options.windows.position, ", ", use.windows, " ",
      training::SplitName(options.windows.split), " documents of ", use.labels.size(), " domains");
  table.columns = {"state", "saved", StrCat(100 * options.bootstrap.confidence, " % interval")};
  std::vector<std::string> zero = {"zero state: bits per byte", ShowBits(use.zero_bits_per_byte),
                                   ""};
  for (size_t d = 0; d < use.distances.size(); ++d) {
    table.columns.push_back(ShowDistance(use.distances[d]));
    zero.push_back(ShowBits(use.zero_by_distance[d]));
  }
  table.columns.push_back("helped");
  zero.push_back("");
  table.rows.push_back(std::move(zero));
  for (const StateSection& section : use.sections) {
    if (!section.title.empty()) table.rows.push_back({section.title});
    for (const StateWorth& worth : section.states) {
      std::vector<std::string> row = {
          worth.draws == 1 ? worth.name : StrCat(worth.name, " (", worth.draws, " draws)"),
          ShowSigned(worth.saved.per_byte), ShowInterval(worth.saved.interval, ShowSigned)};
      for (const SavedBits& saved : worth.by_distance) row.push_back(ShowSigned(saved.per_byte));
      row.push_back(ShowShare(worth.helped));
      table.rows.push_back(std::move(row));
    }
  }
  table.notes = {
      StrCat("Intervals: bootstrap over documents, ", options.bootstrap.resamples,
             " resamples. All rows score the same tokens, the first one too; averages, shuffled "
             "states and those with other shift vectors read the separator first."),
      StrCat("States of other documents come from the training split, up to ",
             options.windows.label_documents, " documents a domain.")};
  if (!use.left_out.empty()) {
    std::string names;
    for (const std::string& name : use.left_out) StrAppend(&names, " ", name);
    table.notes.push_back(
        StrCat("Left out, their documents are too short or too few:", names, "."));
  }
  return table;
}

Table StateUseByLabelTable(const StateUse& use) {
  constexpr std::string_view kMain[] = {"own_before", "own_after", "foreign", "class_mean",
                                        "wrong_label"};
  Table table;
  table.title = "Bits saved per byte by domain";
  table.columns = {"domain", "documents", "zero, bits per byte"};
  for (const std::string_view id : kMain) table.columns.emplace_back(id);
  for (size_t label = 0; label < use.labels.size(); ++label) {
    std::vector<std::string> row = {use.labels[label], StrCat(use.label_windows[label]),
                                    ShowBits(use.zero_by_label[label])};
    for (const std::string_view id : kMain) {
      row.push_back(ShowSigned(use.Find(id)->by_label[label]));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

nlohmann::ordered_json StateUseJson(const StateUse& use, const StateUseOptions& options) {
  nlohmann::ordered_json zero = {{"bits_per_byte", use.zero_bits_per_byte}};
  for (size_t d = 0; d < use.distances.size(); ++d) {
    zero["by_distance"][ShowDistance(use.distances[d])] = use.zero_by_distance[d];
  }
  for (size_t label = 0; label < use.labels.size(); ++label) {
    zero["by_label"][use.labels[label]] = use.zero_by_label[label];
  }
  nlohmann::ordered_json windows = nlohmann::ordered_json::object();
  for (size_t label = 0; label < use.labels.size(); ++label) {
    windows[use.labels[label]] = use.label_windows[label];
  }
  nlohmann::ordered_json states = nlohmann::ordered_json::object();
  for (const StateSection& section : use.sections) {
    for (const StateWorth& worth : section.states) states[worth.id] = JsonOf(worth, use);
  }
  return {{"split", std::string(training::SplitName(options.windows.split))},
          {"position", options.windows.position},
          {"length", options.windows.length},
          {"label_documents", options.windows.label_documents},
          {"seed", options.windows.seed},
          {"resamples", options.bootstrap.resamples},
          {"confidence", options.bootstrap.confidence},
          {"windows", std::move(windows)},
          {"left_out", use.left_out},
          {"zero", std::move(zero)},
          {"states", std::move(states)}};
}

}  // namespace dreamstate::evaluation
