#include "server/inference/prefix_reuse.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "server/inference/executor.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {

std::vector<int64_t> PrefixMarks(int64_t held, int64_t known, int64_t size, PrefixKeep keep) {
  std::vector<int64_t> marks;
  if (keep == PrefixKeep::kNothing) return marks;
  // A text that is known to its end does not part.
  const bool parts = known < size && known - held >= kWorthKeeping;
  if (keep == PrefixKeep::kPrompt) {
    int64_t stride = kLeastStride;
    while ((size - 1) / stride > kMostInside) stride *= 2;
    for (int64_t place = stride; place + stride / 2 <= size; place += stride) {
      const bool too_near = parts && std::abs(place - known) < kWorthKeeping;
      if (place - held >= kWorthKeeping && !too_near) marks.push_back(place);
    }
  }
  if (parts) marks.insert(std::upper_bound(marks.begin(), marks.end(), known), known);
  if (keep == PrefixKeep::kPrompt &&
      size - (marks.empty() ? held : marks.back()) >= kWorthKeeping) {
    marks.push_back(size);
  }
  return marks;
}

PrefixReuse::PrefixReuse(state::PrefixTrie* trie, const ModelSession& session, const Source& source)
    : trie_(source.record != nullptr && source.id.empty() ? nullptr : trie), source_(source) {
  if (trie_ == nullptr) return;
  scope_ = {.fingerprint = session.weights->fingerprint,
            .numerics = session.scheduler->numerics(),
            .tenant = kTenant,
            .adapter = "",
            .source = source.id};
}

int64_t PrefixReuse::Begin(JobContext& job, int slot, std::span<const int32_t> tokens,
                           PrefixKeep keep) {
  marks_.clear();
  mark_ = 0;
  const int64_t size = static_cast<int64_t>(tokens.size());
  state::PrefixTrie::Match match;
  if (trie_ != nullptr && size >= kWorthKeeping) {
    match = trie_->Find(scope_, tokens);
    // As in Keep.
    WithoutExceptions([&] {
      marks_ = PrefixMarks(match.tokens, match.known, size, keep);
      if (keep == PrefixKeep::kPartings) {
        trie_->Remember(scope_, tokens.first(static_cast<size_t>(std::min(size, kPathTokens))),
                        nullptr);
      }
      return absl::OkStatus();
    }).IgnoreError();
  }
  if (match.state == nullptr) {
    source_.Load(job.engine(), slot);
  } else {
    job.engine().slots().Restore(slot, match.state->values);
    std::copy(match.state->last_hidden.begin(), match.state->last_hidden.end(),
              job.last_hidden(slot).begin());
  }
  return match.tokens;
}

int64_t PrefixReuse::ReadTo(int64_t read, int64_t size) const {
  return mark_ < marks_.size() && marks_[mark_] > read ? std::min(marks_[mark_], size) : size;
}

void PrefixReuse::Read(JobContext& job, int slot, std::span<const int32_t> tokens) {
  if (!Keeps(static_cast<int64_t>(tokens.size()))) return;
  ++mark_;
  Keep(job, slot, tokens);
}

void PrefixReuse::Keep(JobContext& job, int slot, std::span<const int32_t> tokens) {
  if (trie_ == nullptr) return;
  // Others may have been here since this sequence began.
  if (static_cast<int64_t>(tokens.size()) - trie_->Held(scope_, tokens) < kWorthKeeping) return;
  const std::span<const float> hidden = job.last_hidden(slot);
  // What overflowed is of no use to anybody.
  if (!std::ranges::all_of(hidden, [](float value) { return std::isfinite(value); })) return;
  // Without memory for it nothing is kept, and nobody is worse off.
  WithoutExceptions([&] {
    auto state = std::make_shared<state::PrefixState>();
    const std::span<const float> values = job.engine().slots().values(slot);
    state->values.assign(values.begin(), values.end());
    state->last_hidden.assign(hidden.begin(), hidden.end());
    trie_->Remember(scope_, tokens, std::move(state));
    return absl::OkStatus();
  }).IgnoreError();
}

}  // namespace dreamstate::server
