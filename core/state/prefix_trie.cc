#include "core/state/prefix_trie.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "core/base/strings.h"

namespace dreamstate::state {
namespace {

// What a node takes beside its label and state: itself, its entries in lists and maps, and (of a
// root) its scope.
constexpr int64_t kNodeBytes = 512;
constexpr int64_t kBytesForEachPath = 64 << 10;
constexpr size_t kMostPathTokens = 4096;

int64_t BytesOf(size_t tokens) { return static_cast<int64_t>(tokens * sizeof(int32_t)); }

// With no capacity beyond its size, as the books have it.
std::vector<int32_t> Joined(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> joined;
  joined.reserve(a.size() + b.size());
  joined.insert(joined.end(), a.begin(), a.end());
  joined.insert(joined.end(), b.begin(), b.end());
  return joined;
}

}  // namespace

PrefixTrie::Walk PrefixTrie::Follow(Node* root, std::span<const int32_t> tokens) const {
  Walk walk = {.node = root};
  while (walk.tokens < tokens.size()) {
    const auto child = walk.node->children.find(tokens[walk.tokens]);
    if (child == walk.node->children.end()) break;
    walk.node = child->second;
    const std::vector<int32_t>& label = walk.node->label;
    const size_t most = std::min(label.size(), tokens.size() - walk.tokens);
    const auto differs = std::mismatch(label.begin(), label.begin() + static_cast<ptrdiff_t>(most),
                                       tokens.begin() + static_cast<ptrdiff_t>(walk.tokens));
    walk.offset = static_cast<size_t>(differs.first - label.begin());
    walk.tokens += walk.offset;
    if (walk.offset < label.size()) break;
    if (walk.node->state != nullptr) {
      walk.deepest = walk.node;
      walk.deepest_tokens = walk.tokens;
    }
  }
  return walk;
}

PrefixTrie::Match PrefixTrie::Find(const PrefixScope& scope, std::span<const int32_t> tokens) {
  MutexLock lock(mutex_);
  Match match;
  if (const auto root = roots_.find(scope); root != roots_.end()) {
    const Walk walk = Follow(root->second, tokens);
    match.known = static_cast<int64_t>(walk.tokens);
    if (walk.node->placed) Touch(walk.node);
    if (walk.deepest != nullptr) {
      Touch(walk.deepest);
      match.state = walk.deepest->state;
      match.tokens = static_cast<int64_t>(walk.deepest_tokens);
    }
  }
  ++(match.state != nullptr ? stats_.hits : stats_.misses);
  stats_.tokens += match.tokens;
  return match;
}

int64_t PrefixTrie::Held(const PrefixScope& scope, std::span<const int32_t> tokens) const {
  MutexLock lock(mutex_);
  const auto root = roots_.find(scope);
  return root == roots_.end() ? 0
                              : static_cast<int64_t>(Follow(root->second, tokens).deepest_tokens);
}

void PrefixTrie::Remember(const PrefixScope& scope, std::span<const int32_t> tokens,
                          std::shared_ptr<const PrefixState> state) {
  if (state == nullptr) tokens = tokens.first(std::min(tokens.size(), kMostPathTokens));
  const int64_t state_bytes = state == nullptr ? 0 : state->bytes();
  // Alone in the trie it is a root and one node.
  if (tokens.empty() || state_bytes + BytesOf(tokens.size()) + 2 * kNodeBytes > max_bytes_) return;
  const auto most_paths = static_cast<size_t>(max_bytes_ / kBytesForEachPath + 1);
  std::list<Use> graveyard;  // outlives the lock: states are freed without it
  MutexLock lock(mutex_);
  while (true) {
    const auto root = roots_.find(scope);
    const Walk walk = root == roots_.end() ? Walk() : Follow(root->second, tokens);
    if (walk.node != nullptr && walk.tokens == tokens.size() &&
        (state == nullptr || (walk.node->state != nullptr &&
                              walk.offset == walk.node->label.size()))) {  // nothing is new
      if (walk.node->placed) Touch(walk.node);
      return;
    }
    const Addition addition = Plan(walk, tokens.size(), state_bytes);
    const bool one_path_too_many =
        addition.leaf && !addition.state && paths_by_use_.size() >= most_paths;
    if (!one_path_too_many && stats_.bytes + addition.bytes <= max_bytes_) {
      Add(scope, walk, tokens.subspan(walk.tokens), addition, std::move(state));
      return;
    }
    // Place first, then the addition: the walk may have led over what goes.
    const bool a_state = !one_path_too_many && !states_by_use_.empty();
    Remove(a_state ? states_by_use_.back().node : paths_by_use_.back().node, &graveyard);
    stats_.evicted += a_state ? 1 : 0;
  }
}

PrefixTrie::Addition PrefixTrie::Plan(const Walk& walk, size_t tokens, int64_t state_bytes) const {
  const Node* node = walk.node;
  Addition addition = {};
  addition.root = node == nullptr;
  addition.split = node != nullptr && walk.offset < node->label.size();
  // The end of a path without a state has nothing to tell once the path goes on.
  const bool goes_on = node != nullptr && !addition.split && node->placed && node->state == nullptr;
  addition.leaf = walk.tokens < tokens && !goes_on;
  addition.state = state_bytes > 0;
  const int nodes = (addition.root ? 1 : 0) + (addition.split ? 1 : 0) + (addition.leaf ? 1 : 0);
  addition.bytes = nodes * kNodeBytes + BytesOf(tokens - walk.tokens) + state_bytes;
  return addition;
}

void PrefixTrie::Add(const PrefixScope& scope, const Walk& walk, std::span<const int32_t> rest,
                     const Addition& addition, std::shared_ptr<const PrefixState> state) {
  // Everything that may throw is made aside.
  std::list<Node> made;
  std::map<int32_t, Node*> link;  // of the leaf, to hang it on
  std::vector<int32_t> label;     // of walk.node from now on
  Node* end = addition.root ? MakeNode(&made, nullptr, {}) : walk.node;
  if (addition.split) {
    const std::span<const int32_t> whole = walk.node->label;
    end = MakeNode(&made, walk.node->parent, whole.first(walk.offset));
    label = Joined(whole.subspan(walk.offset), {});
    end->children.emplace(label.front(), walk.node);
  }
  if (addition.leaf) {
    end = MakeNode(&made, end, rest);
    link.emplace(rest.front(), end);
  } else if (!rest.empty()) {
    label = Joined(end->label, rest);
  }
  std::list<Use> use;
  if (!end->placed) use.push_back({.node = end});
  if (addition.root) roots_.emplace(scope, &made.back());

  // From here on nothing throws.
  if (addition.split) {
    Node* above = addition.leaf ? end->parent : end;
    above->parent->children.find(above->label.front())->second = above;
    walk.node->parent = above;
  }
  if (!label.empty()) walk.node->label.swap(label);
  if (addition.leaf) end->parent->children.insert(link.extract(link.begin()));
  nodes_.splice(nodes_.begin(), made);
  if (state != nullptr && end->placed) {
    use.splice(use.begin(), paths_by_use_, end->place);
    end->placed = false;
  }
  if (state != nullptr) {
    end->state = std::move(state);
    ++stats_.states;
  }
  stats_.bytes += addition.bytes;
  if (end->placed) {
    Touch(end);
  } else {
    end->place = use.begin();
    end->placed = true;
    OrderOf(*end).splice(OrderOf(*end).begin(), use);
  }
}

PrefixTrie::Node* PrefixTrie::MakeNode(std::list<Node>* nodes, Node* parent,
                                       std::span<const int32_t> label) {
  nodes->emplace_front();
  Node* node = &nodes->front();
  node->self = nodes->begin();
  node->parent = parent;
  node->label.assign(label.begin(), label.end());
  return node;
}

void PrefixTrie::DeleteNode(Node* node) {
  stats_.bytes -= kNodeBytes + BytesOf(node->label.size());
  nodes_.erase(node->self);
}

void PrefixTrie::Touch(Node* node) {
  std::list<Use>& order = OrderOf(*node);
  order.splice(order.begin(), order, node->place);
}

void PrefixTrie::Bury(Node* node, std::list<Use>* graveyard) {
  if (!node->placed) return;
  graveyard->splice(graveyard->begin(), OrderOf(*node), node->place);
  node->placed = false;
  if (node->state == nullptr) return;
  stats_.bytes -= node->state->bytes();
  --stats_.states;
  node->place->state = std::move(node->state);
  node->state = nullptr;
}

void PrefixTrie::Remove(Node* node, std::list<Use>* graveyard) {
  // `last` and all below it goes: upwards, while nothing is left that a node is there for, neither
  // a state nor a parting of ways. `stays` is above it; null: the scope goes.
  Node* last = nullptr;
  Node* stays = node;
  if (node->children.empty()) {
    do {
      last = stays;
      stays = last->parent;
    } while (stays != nullptr && stays->state == nullptr && stays->children.size() == 1);
  }
  // The one way on from there, where that is no parting of ways any more.
  Node* only = nullptr;
  std::vector<int32_t> label;
  const bool bare =
      stays != nullptr && stays->parent != nullptr && (stays == node || stays->state == nullptr);
  if (bare && stays->children.size() == (last == nullptr ? 1 : 2)) {
    only = stays->children.begin()->second;
    if (only == last) only = std::next(stays->children.begin())->second;
    label = Joined(stays->label, only->label);  // all that may throw
  }

  Bury(node, graveyard);
  if (last != nullptr) {
    if (stays != nullptr) {
      stays->children.erase(last->label.front());
    } else {
      std::erase_if(roots_, [&](const auto& root) { return root.second == last; });
    }
    while (node != stays) {
      Node* above = node->parent;
      DeleteNode(node);
      node = above;
    }
  }
  if (only == nullptr) return;
  stats_.bytes += BytesOf(label.size() - only->label.size());
  only->label = std::move(label);
  only->parent = stays->parent;
  only->parent->children.find(only->label.front())->second = only;
  DeleteNode(stays);
}

void PrefixTrie::ForgetBackbone(const std::string& fingerprint) {
  std::list<Use> graveyard;
  MutexLock lock(mutex_);
  for (auto root = roots_.begin(); root != roots_.end();) {
    if (root->first.fingerprint != fingerprint) {
      ++root;
      continue;
    }
    for (Node* node = root->second; node != nullptr;) {  // from below, without recursion
      if (!node->children.empty()) {
        node = node->children.begin()->second;
        continue;
      }
      Node* above = node->parent;
      if (above != nullptr) above->children.erase(above->children.begin());
      Bury(node, &graveyard);
      DeleteNode(node);
      node = above;
    }
    root = roots_.erase(root);
  }
}

PrefixStats PrefixTrie::stats() const {
  MutexLock lock(mutex_);
  return stats_;
}

absl::Status PrefixTrie::CheckInvariants() const {
  const auto broken = [](std::string_view what) {
    return absl::InternalError(StrCat("prefix trie invariant: ", what));
  };
  MutexLock lock(mutex_);
  int64_t bytes = 0, states = 0;
  size_t placed = 0;
  std::set<const Node*> with_state, without;
  for (const Use& use : states_by_use_) with_state.insert(use.node);
  for (const Use& use : paths_by_use_) without.insert(use.node);
  for (const Node& node : nodes_) {
    bytes += kNodeBytes + BytesOf(node.label.size());
    if (node.state != nullptr) bytes += node.state->bytes();
    states += node.state != nullptr ? 1 : 0;
    placed += node.placed ? 1 : 0;
    if (node.state != nullptr ? without.count(&node) > 0 : with_state.count(&node) > 0) {
      return broken("a node is in the wrong order of use");
    }
    if (node.placed != (with_state.count(&node) + without.count(&node) > 0)) {
      return broken("a node's place is not its own");
    }
    const bool is_root = node.parent == nullptr;
    const bool is_end = node.children.empty() && !is_root;
    if (node.placed != (node.state != nullptr || is_end)) {
      return broken("what can be evicted is not what is in the order of use");
    }
    if (!is_root && node.state == nullptr && node.children.size() == 1) {
      return broken("a node is there for nothing");
    }
    if (node.label.empty() != is_root) return broken("a label is empty");
    if (node.label.capacity() != node.label.size())
      return broken("a label takes more than it says");
    for (const auto& [token, child] : node.children) {
      if (child->parent != &node || child->label.front() != token) {
        return broken("a child is not its parent's");
      }
    }
  }
  for (const auto& [scope, root] : roots_) {
    if (root->children.empty()) return broken("a scope holds nothing");
  }
  if (bytes != stats_.bytes || states != stats_.states ||
      placed != with_state.size() + without.size()) {
    return broken("the books are wrong");
  }
  if (bytes > max_bytes_) return broken("more is kept than fits");
  return absl::OkStatus();
}

}  // namespace dreamstate::state
