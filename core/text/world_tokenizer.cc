// The tokenizer of the RWKV World models (spec/rwkv7.md §4): from left to right the longest token
// that the text begins with. Tokens are a trie in arrays, breadth first, so that the children of a
// node lie one after another: some 7 bytes a node.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/status/statusor.h"
#include "core/text/tokenizer.h"
#include "core/text/world_vocabulary.h"

namespace dreamstate::text {
namespace {

class WorldTrie {
 public:
  // tokens[0] is no token.
  explicit WorldTrie(const std::vector<std::string>& tokens);

  int32_t tokens() const { return static_cast<int32_t>(offsets_.size() - 1); }

  // Of the longest token that `text`, which is not empty, begins with.
  int32_t LongestMatch(std::string_view text) const {
    uint32_t node = roots_[static_cast<unsigned char>(text.front())];
    int32_t match = token_[node];
    for (const char c : text.substr(1)) {
      const uint32_t begin = first_child_[node];
      const uint32_t end = first_child_[node + 1];
      if (begin == end) break;
      const auto* found = static_cast<const char*>(std::memchr(&label_[begin], c, end - begin));
      if (found == nullptr) break;
      node = static_cast<uint32_t>(found - label_.data());
      if (token_[node] != 0) match = token_[node];
    }
    return match;
  }

  std::string_view Bytes(int32_t token) const {
    const auto i = static_cast<size_t>(token);
    return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }

 private:
  std::array<uint32_t, 256> roots_{};  // nodes of the first byte
  std::vector<uint32_t> first_child_;  // of node n: up to that of node n + 1
  std::string label_;                  // the byte that leads to a node
  std::vector<uint16_t> token_;        // that ends at a node; 0 = none
  std::string bytes_;                  // of all tokens, in order of id
  std::vector<uint32_t> offsets_;      // into bytes_
};

WorldTrie::WorldTrie(const std::vector<std::string>& tokens) {
  for (const std::string& token : tokens) {
    offsets_.push_back(static_cast<uint32_t>(bytes_.size()));
    bytes_ += token;
  }
  offsets_.push_back(static_cast<uint32_t>(bytes_.size()));

  std::vector<std::pair<std::string_view, uint16_t>> sorted;
  for (size_t id = 1; id < tokens.size(); ++id) {
    sorted.emplace_back(tokens[id], static_cast<uint16_t>(id));
  }
  std::sort(sorted.begin(), sorted.end());
  // A node is the tokens that begin with its bytes: a range of the sorted ones. The root, node 0,
  // is all of them.
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> nodes = {{0, sorted.size(), 0}};
  label_.push_back('\0');
  for (size_t node = 0; node < nodes.size(); ++node) {
    auto [begin, end, depth] = nodes[node];
    token_.push_back(0);
    if (sorted[begin].first.size() == depth) token_.back() = sorted[begin++].second;
    first_child_.push_back(static_cast<uint32_t>(nodes.size()));
    while (begin < end) {
      const char label = sorted[begin].first[depth];
      const size_t child = begin;
      while (begin < end && sorted[begin].first[depth] == label) ++begin;
      if (depth == 0) {
        roots_[static_cast<unsigned char>(label)] = static_cast<uint32_t>(nodes.size());
      }
      nodes.push_back({child, begin, depth + 1});
      label_.push_back(label);
    }
  }
  first_child_.push_back(static_cast<uint32_t>(nodes.size()));
}

class WorldTokenizer final : public Tokenizer {
 public:
  explicit WorldTokenizer(const WorldTrie& trie) : trie_(trie) {}

  std::string_view name() const override { return "world"; }
  int vocab_size() const override { return trie_.tokens(); }

  void Encode(std::string_view bytes, std::vector<int32_t>* tokens) const override {
    while (!bytes.empty()) {
      const int32_t token = trie_.LongestMatch(bytes);
      tokens->push_back(token);
      bytes.remove_prefix(trie_.Bytes(token).size());
    }
  }

  std::string_view Decode(int32_t token) const override { return trie_.Bytes(token); }

  // As the reference sampler asks it: whatever is a piece of this text.
  bool CountsForPenalties(int32_t token) const override {
    return std::string_view(" \t0123456789").find(trie_.Bytes(token)) == std::string_view::npos;
  }

 private:
  const WorldTrie& trie_;
};

}  // namespace

std::unique_ptr<const Tokenizer> MakeWorldTokenizer() {
  // Built at its first use and kept: every model of the process shares it. The text is part of the
  // program, so that it is well formed is a matter of the tests.
  static const WorldTrie* const trie =
      new WorldTrie(ParseWorldVocabulary(WorldVocabularyText()).value());
  return std::make_unique<WorldTokenizer>(*trie);
}

}  // namespace dreamstate::text
