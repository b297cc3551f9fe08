// Remembers states of token prefixes that were read, so that a text with the same beginning is read
// from there on. A compressed trie over token ids for each scope; its nodes may hold a state.
//
// 1. What Find gives has read exactly the tokens it says, in exactly that scope: whoever goes on
// from it gets the same bits as whoever reads it all, also when memory ran out meanwhile. 2.
// States, tokens and nodes together take at most `max_bytes`; what was used longest ago goes first.
// A state that somebody still copies lives until he is done. 3. Paths may be remembered without a
// state: 4 bytes a token instead of a state, enough to see where two texts part. There is at most
// one for every 64 KiB of `max_bytes` (and one more), of at most 4096 tokens each: together a
// fourth and their nodes, so that however many and long texts pass by, they do not push out the
// states. Thread-safe; the lock is held for walking and never for copying or freeing a state. Knows
// neither the engine nor texts: what a state's values mean is its scope's business.
#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/mutex.h"

namespace dreamstate::state {

// What states must have in common to stand for each other.
struct PrefixScope {
  std::string fingerprint;  // of the backbone
  std::string numerics;     // what computes, to the bit: "bf16/avx512", "int8(rkvoKh)/avx512"
  std::string tenant;       // one tenant never sees, or times, what another has read
  std::string adapter;      // empty = none
  std::string source;  // id of the stored state that reading began from; empty = the empty state

  friend auto operator<=>(const PrefixScope&, const PrefixScope&) = default;
};

struct PrefixState {
  std::vector<float> values;       // the whole state, in the layout of rwkv::Slots::values
  std::vector<float> last_hidden;  // [D] after ln_out, behind the last token

  int64_t bytes() const {
    return static_cast<int64_t>((values.size() + last_hidden.size()) * sizeof(float));
  }
};

struct PrefixStats {
  int64_t hits = 0;     // Finds that gave a state
  int64_t misses = 0;   // and those that gave none
  int64_t tokens = 0;   // that the states given had read
  int64_t evicted = 0;  // states
  int64_t states = 0;
  int64_t bytes = 0;
};

class PrefixTrie {
 public:
  explicit PrefixTrie(int64_t max_bytes) : max_bytes_(max_bytes) {}
  PrefixTrie(const PrefixTrie&) = delete;
  PrefixTrie& operator=(const PrefixTrie&) = delete;

  struct Match {
    std::shared_ptr<const PrefixState> state;  // null: no prefix has one
    int64_t tokens = 0;                        // that the state has read
    // How far the tokens follow what is remembered, with a state or without; >= `tokens`.
    int64_t known = 0;
  };
  // The longest prefix of `tokens`, itself included, that has a state.
  Match Find(const PrefixScope& scope, std::span<const int32_t> tokens);
  // How many tokens the longest prefix with a state has. A look, not a use.
  int64_t Held(const PrefixScope& scope, std::span<const int32_t> tokens) const;
  // `tokens` (>= 1) have been read and led to `state`; null remembers the path alone, and no more
  // than 4096 tokens of it. What is too large for the whole trie is not remembered. Throws
  // std::bad_alloc, with what was used longest ago gone at most.
  void Remember(const PrefixScope& scope, std::span<const int32_t> tokens,
                std::shared_ptr<const PrefixState> state);
  // Frees everything of a backbone that is not served any more. Allocates nothing.
  void ForgetBackbone(const std::string& fingerprint);

  PrefixStats stats() const;
  // INTERNAL naming the first broken promise; for tests.
  absl::Status CheckInvariants() const;

 private:
  struct Node;
  // A place in an order of use. A place that is given up takes the node's state along, so that
  // nothing need be allocated to free it elsewhere.
  struct Use {
    Node* node = nullptr;
    std::shared_ptr<const PrefixState> state = nullptr;
  };
  struct Node {
    std::list<Node>::iterator self;
    Node* parent = nullptr;             // null: the root of a scope
    std::vector<int32_t> label;         // tokens from the parent to here; empty only in a root
    std::map<int32_t, Node*> children;  // by the first token of their labels
    std::shared_ptr<const PrefixState> state;
    // In the order of use, for what can be evicted: nodes with a state, and ends of paths without.
    std::list<Use>::iterator place;
    bool placed = false;
  };
  // Where a walk along tokens ended: `offset` tokens into the label of `node`.
  struct Walk {
    Node* node = nullptr;  // null: the scope has no root
    size_t offset = 0;
    size_t tokens = 0;        // walked
    Node* deepest = nullptr;  // with a state, at or above; null = none
    size_t deepest_tokens = 0;
  };
  // A new node; where it hangs is its maker's business.
  static Node* MakeNode(std::list<Node>* nodes, Node* parent, std::span<const int32_t> label);

  Walk Follow(Node* root, std::span<const int32_t> tokens) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What a sequence whose walk ended so adds: a node where it parts inside a label, one for its
  // rest (or a bare end that goes on), and its state.
  struct Addition {
    bool root, split, leaf, state;
    int64_t bytes;
  };
  Addition Plan(const Walk& walk, size_t tokens, int64_t state_bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Does it. When memory runs out nothing has changed.
  void Add(const PrefixScope& scope, const Walk& walk, std::span<const int32_t> rest,
           const Addition& addition, std::shared_ptr<const PrefixState> state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::list<Use>& OrderOf(const Node& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return node.state != nullptr ? states_by_use_ : paths_by_use_;
  }
  // Of a node that has a place.
  void Touch(Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the node's state, if any, and its place, if any, away.
  void Bury(Node* node, std::list<Use>* graveyard) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DeleteNode(Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes a node's state, if any, and whatever in the trie existed only for it. When memory runs
  // out nothing has changed.
  void Remove(Node* node, std::list<Use>* graveyard) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t max_bytes_;
  mutable Mutex mutex_;
  std::list<Node> nodes_ ABSL_GUARDED_BY(mutex_);
  std::map<PrefixScope, Node*> roots_ ABSL_GUARDED_BY(mutex_);
  // Used last first.
  std::list<Use> states_by_use_ ABSL_GUARDED_BY(mutex_);
  std::list<Use> paths_by_use_ ABSL_GUARDED_BY(mutex_);
  PrefixStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::state
