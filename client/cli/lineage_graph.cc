#include "client/cli/lineage_graph.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/arguments.h"
#include "client/rpc_status.h"

namespace dreamstate::cli {
namespace {

// The states of an answer by name, and what was made from each.
struct Graph {
  std::map<std::string, const v1::State*> states;            // null: nothing is known of it
  std::map<std::string, std::vector<std::string>> children;  // oldest first
  std::vector<std::string> roots;                            // without a parent here, oldest first
  std::string asked;
};

Graph GraphOf(const v1::GetLineageResponse& lineage) {
  Graph graph;
  for (const v1::State& state : lineage.states()) graph.states.emplace(state.name(), &state);
  for (const std::string& name : lineage.unknown()) graph.states.emplace(name, nullptr);
  if (lineage.states_size() > 0) graph.asked = lineage.states(0).name();

  std::vector<std::string> names;
  for (const auto& [name, state] : graph.states) names.push_back(name);
  const auto made = [&graph](const std::string& name) {
    const v1::State* const state = graph.states.at(name);
    return state == nullptr
               ? std::pair<int64_t, int32_t>(0, 0)
               : std::pair<int64_t, int32_t>(state->created().seconds(), state->created().nanos());
  };
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return made(a) < made(b); });
  for (const std::string& name : names) {
    const v1::State* const state = graph.states.at(name);
    std::set<std::string> parents;
    if (state != nullptr) {
      for (const std::string& parent : state->lineage().parents()) {
        if (graph.states.count(parent) > 0) parents.insert(parent);
      }
    }
    for (const std::string& parent : parents) graph.children[parent].push_back(name);
    if (parents.empty()) graph.roots.push_back(name);
  }
  return graph;
}

std::string Facts(const v1::State* state) {
  if (state == nullptr) return "nothing is known of it any more";
  std::vector<std::string> facts = {state->lineage().operation(),
                                    ShowNumber(state->token_count(), "token"),
                                    ShowTime(state->created())};
  if (state->deleted()) facts.push_back("deleted");
  if (!state->labels().empty()) facts.push_back(absl::StrJoin(state->labels(), " "));
  return absl::StrJoin(facts, ", ");
}

class Tree {
 public:
  explicit Tree(const Graph& graph) : graph_(graph) {}

  std::vector<std::string> Draw() {
    for (const std::string& root : graph_.roots) Add(root, "", "");
    // Only a cycle has no root.
    for (const auto& [name, state] : graph_.states) {
      if (drawn_.count(name) == 0) Add(name, "", "");
    }
    return std::move(lines_);
  }

 private:
  // A state and what was made from it: `head` stands before its own line, `rest` before the others.
  // An only child stays in its parent's column, so long chains do not wander to the right.
  void Add(std::string name, std::string head, const std::string& rest) {
    for (;;) {
      const v1::State* const state = graph_.states.at(name);
      const char* const mark = name == graph_.asked                   ? "*"
                               : state == nullptr || state->deleted() ? "x"
                                                                      : "o";
      const bool first_time = drawn_.insert(name).second;
      lines_.push_back(client::OneLine(absl::StrCat(
          head, mark, " ", name, "  ", first_time ? Facts(state) : "drawn above already")));
      const auto found = graph_.children.find(name);
      if (!first_time || found == graph_.children.end()) return;
      const std::vector<std::string>& children = found->second;
      if (children.size() > 1) {
        for (size_t i = 0; i < children.size(); ++i) {
          const bool last = i + 1 == children.size();
          Add(children[i], absl::StrCat(rest, last ? "└─" : "├─"),
              absl::StrCat(rest, last ? "  " : "│ "));
        }
        return;
      }
      name = children[0];
      head = rest;
    }
  }

  const Graph& graph_;
  std::set<std::string> drawn_;
  std::vector<std::string> lines_;
};

std::string Quoted(const std::string& text) {
  return absl::StrCat(
      "\"", absl::StrReplaceAll(client::OneLine(text), {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

}  // namespace

std::vector<std::string> LineageTree(const v1::GetLineageResponse& lineage) {
  const Graph graph = GraphOf(lineage);
  return Tree(graph).Draw();
}

std::vector<std::string> LineageDot(const v1::GetLineageResponse& lineage) {
  const Graph graph = GraphOf(lineage);
  std::vector<std::string> lines = {"digraph lineage {", "  node [shape=box];"};
  for (const auto& [name, state] : graph.states) {
    const bool gone = state == nullptr || state->deleted();
    // Graphviz' own line break stands between the two quoted parts.
    const std::string label = Quoted(name), facts = Quoted(Facts(state));
    lines.push_back(absl::StrCat("  ", label, " [label=", label.substr(0, label.size() - 1), "\\n",
                                 facts.substr(1), name == graph.asked ? ", penwidth=3" : "",
                                 gone ? ", style=dashed" : "", "];"));
  }
  for (const auto& [parent, children] : graph.children) {
    for (const std::string& child : children)
      lines.push_back(absl::StrCat("  ", Quoted(parent), " -> ", Quoted(child), ";"));
  }
  lines.push_back("}");
  return lines;
}

}  // namespace dreamstate::cli
