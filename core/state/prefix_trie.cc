#include "core/state/prefix_trie.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/base/strings.h"

namespace dreamstate::state {
namespace {

// What a node takes beside its label and state: itself, its entries in lists and maps, and (of a
// root) its scope.
constexpr int64_t kNodeBytes = 512;
constexpr int64_t kBytesForEachPath = 64 << 10;

int64_t BytesOf(size_t tokens) { return static_cast<int64_t>(tokens * sizeof(int32_t)); }

}  // namespace

PrefixTrie::Walk PrefixTrie::Follow(Node* root, std::span<const int32_t> tokens) const {
  Walk walk = {root, 0, 0, nullptr, 0};
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
  const int64_t state_bytes = state == nullptr ? 0 : state->bytes();
  // Alone in the trie it is a root and one node.
  if (tokens.empty() || state_bytes + BytesOf(tokens.size()) + 2 * kNodeBytes > max_bytes_) return;
  Graveyard graveyard;  // outlives the lock: states are freed without it
  MutexLock lock(mutex_);
  const auto known = roots_.find(scope);
  Node* root = known != roots_.end() ? known->second : NewNode(nullptr, {});
  if (known == roots_.end()) roots_.emplace(scope, root);
  const Walk walk = Follow(root, tokens);
  const std::span<const int32_t> rest = tokens.subspan(walk.tokens);
  Node* node = walk.node;
  if (walk.offset < node->label.size()) {
    if (rest.empty() && state == nullptr) {
      if (node->placed) Touch(node);
      return;
    }
    node = Split(node, walk.offset);
  }
  if (!rest.empty()) {
    const bool is_bare_end =
        node->parent != nullptr && node->children.empty() && node->state == nullptr && node->placed;
    if (is_bare_end) {  // the path goes on
      node->label.insert(node->label.end(), rest.begin(), rest.end());
      stats_.bytes += BytesOf(rest.size());
    } else {
      node = NewNode(node, rest);
    }
  }
  if (state != nullptr && node->state == nullptr) {
    Unplace(node);
    node->state = std::move(state);
    stats_.bytes += state_bytes;
    ++stats_.states;
  }
  if (node->state != nullptr || node->children.empty()) Touch(node);
  while (static_cast<int64_t>(paths_by_use_.size()) > max_bytes_ / kBytesForEachPath + 1) {
    Remove(paths_by_use_.back(), &graveyard);
  }
  while (stats_.bytes > max_bytes_) {
    const bool any_state = !states_by_use_.empty();
    stats_.evicted += any_state ? 1 : 0;
    Remove(any_state ? states_by_use_.back() : paths_by_use_.back(), &graveyard);
  }
}

PrefixTrie::Node* PrefixTrie::NewNode(Node* parent, std::span<const int32_t> label) {
  nodes_.emplace_front();
  Node* node = &nodes_.front();
  node->self = nodes_.begin();
  node->parent = parent;
  node->label.assign(label.begin(), label.end());
  if (parent != nullptr) parent->children[label.front()] = node;
  stats_.bytes += kNodeBytes + BytesOf(label.size());
  return node;
}

void PrefixTrie::DeleteNode(Node* node) {
  Unplace(node);
  stats_.bytes -= kNodeBytes + BytesOf(node->label.size());
  nodes_.erase(node->self);
}

PrefixTrie::Node* PrefixTrie::Split(Node* node, size_t offset) {
  const std::vector<int32_t> label = std::move(node->label);
  stats_.bytes -= BytesOf(label.size());
  Node* above = NewNode(node->parent, std::span(label).first(offset));
  node->label.assign(label.begin() + static_cast<ptrdiff_t>(offset), label.end());
  stats_.bytes += BytesOf(node->label.size());
  node->parent = above;
  above->children[node->label.front()] = node;
  return above;
}

void PrefixTrie::Touch(Node* node) {
  std::list<Node*>& order = OrderOf(*node);
  if (node->placed) {
    order.splice(order.begin(), order, node->place);
    return;
  }
  order.push_front(node);
  node->place = order.begin();
  node->placed = true;
}

void PrefixTrie::Unplace(Node* node) {
  if (!node->placed) return;
  OrderOf(*node).erase(node->place);
  node->placed = false;
}

void PrefixTrie::Remove(Node* node, Graveyard* graveyard) {
  Unplace(node);
  if (node->state != nullptr) {
    stats_.bytes -= node->state->bytes();
    --stats_.states;
    graveyard->push_back(std::move(node->state));
    node->state = nullptr;
  }
  // Upwards, while nothing is left that a node is there for: neither a state nor a parting of ways.
  while (node->state == nullptr && node->children.empty()) {
    Node* parent = node->parent;
    if (parent == nullptr) {
      std::erase_if(roots_, [&](const auto& root) { return root.second == node; });
      DeleteNode(node);
      return;
    }
    parent->children.erase(node->label.front());
    DeleteNode(node);
    node = parent;
  }
  if (node->parent == nullptr || node->state != nullptr || node->children.size() != 1) return;
  Node* child = node->children.begin()->second;
  std::vector<int32_t> label = std::move(node->label);
  stats_.bytes -= BytesOf(label.size());
  node->label.clear();
  stats_.bytes += BytesOf(label.size());
  label.insert(label.end(), child->label.begin(), child->label.end());
  child->label = std::move(label);
  child->parent = node->parent;
  node->parent->children[child->label.front()] = child;
  DeleteNode(node);
}

void PrefixTrie::ForgetBackbone(const std::string& fingerprint) {
  Graveyard graveyard;
  MutexLock lock(mutex_);
  for (auto root = roots_.begin(); root != roots_.end();) {
    if (root->first.fingerprint != fingerprint) {
      ++root;
      continue;
    }
    std::vector<Node*> below = {root->second};
    while (!below.empty()) {
      Node* node = below.back();
      below.pop_back();
      for (const auto& [token, child] : node->children) below.push_back(child);
      Unplace(node);
      if (node->state != nullptr) {
        stats_.bytes -= node->state->bytes();
        --stats_.states;
        graveyard.push_back(std::move(node->state));
      }
      DeleteNode(node);
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
  const std::set<const Node*> with_state(states_by_use_.begin(), states_by_use_.end());
  const std::set<const Node*> without(paths_by_use_.begin(), paths_by_use_.end());
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
