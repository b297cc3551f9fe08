// One sequence's dealings with the prefix trie: begins from the state of the longest prefix that
// was read before, and chooses which states on the way are kept for others.
//
// What is kept costs memory (a state: 198 KiB of the model that ships, 2.4 MB of one with 0.19B
// parameters, whatever its length) and a copy (measured: no more than the reading of a token).
// So these are kept:
//   the end of a prompt      the same prompt again (branches of an evaluation, retries), or with
//                            more behind it
//   the end of a branch      the next turn of a chat: prompt, answer, and what was said to it
//   where a prompt parts     from what was read before: proof that there is a beginning (a system
//                            prompt, a template, a document with another question) that more than
//                            one text has. The second text reads it once more, the third does not
//   a few places inside      of a long prompt, at most kMostInside, so that also the second text
//                            that parts from it reads at most a fourth of it again
// and each only where it lies kWorthKeeping tokens or more beyond one that is held. Below that
// nothing is saved: a step reads every weight for one token as for thirty-two, and is bound by
// that. Documents of a harvest keep only where they part: they are many, are read once, and their
// states are in the store. Of them the first kPathTokens tokens are remembered without a state.
// With room for 256 MiB that is about a hundred states of 0.19B parameters, thirty conversations.
//
// Exact to the bit, as splits of a sequence are. Loop thread only; belongs to one job.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/state/prefix_trie.h"
#include "server/inference/job.h"
#include "server/inference/model_session.h"
#include "server/inference/source.h"

namespace dreamstate::server {

inline constexpr int64_t kWorthKeeping = 32;
inline constexpr int64_t kLeastStride = 512;  // between places inside of a prompt
inline constexpr int64_t kMostInside = 4;
inline constexpr int64_t kPathTokens = 1024;

enum class PrefixKeep {
  kNothing,
  kPartings,  // where the text parts from what is known
  kPrompt     // also its end, and places inside
};

// Where to keep the state while reading a text of `size` tokens, ascending: the first `held` tokens
// need no reading, the first `known` (>= held) were read before. A pure function.
std::vector<int64_t> PrefixMarks(int64_t held, int64_t known, int64_t size, PrefixKeep keep);

class PrefixReuse {
 public:
  // `trie` may be null: nothing is found, nothing kept. So it is for a source that was sent along,
  // which has no name. `source` lives as long as this.
  PrefixReuse(state::PrefixTrie* trie, const ModelSession& session, const Source& source);

  // Makes `slot` the state of the longest known prefix of `tokens` (it may be all of them), or the
  // source's. Returns how many tokens that state has read since the source; when there are any,
  // job.last_hidden(slot) belongs to it.
  int64_t Begin(JobContext& job, int slot, std::span<const int32_t> tokens, PrefixKeep keep);
  // How far to read in one piece after `read` tokens, at most `size`. There last_hidden is wanted
  // when Keeps(that).
  int64_t ReadTo(int64_t read, int64_t size) const;
  bool Keeps(int64_t read) const { return mark_ < marks_.size() && marks_[mark_] == read; }
  // `tokens` have been read into `slot` since the source.
  void Read(JobContext& job, int slot, std::span<const int32_t> tokens);
  // Keeps the state of `slot`, which has read `tokens` since the source, and its last_hidden.
  void Keep(JobContext& job, int slot, std::span<const int32_t> tokens);

  bool on() const { return trie_ != nullptr; }

 private:
  state::PrefixTrie* const trie_;
  const Source& source_;
  state::PrefixScope scope_;
  std::vector<int64_t> marks_;
  size_t mark_ = 0;
};

}  // namespace dreamstate::server
