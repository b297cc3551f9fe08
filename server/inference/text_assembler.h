// From sampled tokens to pieces of text: finds stop strings across token boundaries, holds back
// what may still become one, and hands out complete UTF-8 only. One object a branch; not
// thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/rwkv/sampler.h"
#include "core/text/utf8.h"
#include "dreamstate/v1/common.pb.h"

namespace dreamstate::server {

// Watches a stream of bytes for any of several strings (Knuth, Morris and Pratt's automaton for
// each).
class StopMatcher {
 public:
  explicit StopMatcher(const std::vector<std::string>& stops);

  struct Match {
    int stop;      // index of the string that has just ended
    size_t bytes;  // its length
  };
  // The longest string that ends with this byte (the first of them when two are equal).
  std::optional<Match> Push(char byte);
  // How many of the last bytes may be the beginning of a stop string.
  size_t held_bytes() const;

 private:
  struct Automaton {
    std::string text;
    std::vector<uint16_t> fallback;  // longest border of text[0 .. i]
    size_t matched = 0;
  };
  std::vector<Automaton> automata_;
};

class TextAssembler {
 public:
  explicit TextAssembler(const std::vector<std::string>& stops) : matcher_(stops) {}

  // Adds a sampled token. The index of the stop string when one appeared: the text ends before it,
  // tokens of which any byte lies in it or behind it are not returned, and nothing may be added any
  // more.
  std::optional<int> Push(int32_t token, std::string_view bytes,
                          std::optional<rwkv::LogProbs> log_probs);
  // Ends the text: what was held back comes out.
  void Finish();
  // Moves what is ready into `piece`; false when there is nothing.
  bool Take(v1::TextPiece* piece);
  // Tokens that Take handed out or will hand out next.
  int64_t returned_tokens() const { return returned_; }

 private:
  struct Token {
    int32_t id;
    uint64_t end;  // offset of its last byte's end in the text
    std::optional<rwkv::LogProbs> log_probs;
  };
  // Passes the first `bytes` of held_ on, then tokens that became complete.
  void Release(size_t bytes);
  void CompleteTokens();

  StopMatcher matcher_;
  text::Utf8Stream utf8_;
  std::string held_;        // may be the beginning of a stop string
  uint64_t released_ = 0;   // bytes that left held_
  std::deque<Token> open_;  // not complete
  v1::TextPiece ready_;
  std::string raw_;  // bytes that left held_ and are not in ready_
  int64_t returned_ = 0;
};

}  // namespace dreamstate::server
