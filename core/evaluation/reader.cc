#include "core/evaluation/reader.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::evaluation {

Reader::Reader(std::shared_ptr<const rwkv::Weights> weights, const Options& options,
               kernels::ThreadPool& pool)
    : engine_(std::move(weights),
              {.max_tokens = options.tokens,
               .max_sequences = options.sequences,
               .slots = options.sequences},
              pool),
      options_(options),
      active_(options.sequences),
      nll_(static_cast<size_t>(options.sequences) * options.tokens),
      hidden_(static_cast<size_t>(options.sequences) * engine_.config().width) {}

absl::Status Reader::Check(const Reading& reading) const {
  if (reading.from != nullptr) {
    const state::Shape expected = state::Shape::Of(config());
    const state::State& state = reading.from->state;
    if (state.shape != expected ||
        static_cast<int64_t>(state.shift.size()) != expected.shift_elements() ||
        static_cast<int64_t>(state.wkv.size()) != expected.wkv_elements()) {
      return absl::InvalidArgumentError(
          StrCat("state: expected one of ", expected.layers, " layers and ", expected.heads,
                 " heads of ", expected.head_size, ", found ", state.shape.layers, ", ",
                 state.shape.heads, " and ", state.shape.head_size));
    }
  }
  if (reading.harvest && (!reading.scored.empty() || reading.context.empty())) {
    return absl::InvalidArgumentError("reading: a harvest takes a context and scores nothing");
  }
  const bool hidden_known = reading.from != nullptr &&
                            static_cast<int>(reading.from->last_hidden.size()) == config().width;
  if (!reading.scored.empty() && reading.context.empty() && !hidden_known) {
    return absl::InvalidArgumentError(
        "reading: nothing predicts the first token: expected a context, or a state whose last "
        "hidden vector is known");
  }
  for (const std::vector<int32_t>* tokens : {&reading.context, &reading.scored}) {
    for (const int32_t token : *tokens) {
      if (token >= 0 && token < config().vocab) continue;
      return absl::InvalidArgumentError(
          StrCat("token: expected 0 to ", config().vocab - 1, ", found ", token));
    }
  }
  return absl::OkStatus();
}

void Reader::Begin(const Reading& reading, ReadResult* result, int slot) {
  Active& active = active_[slot];
  active.tokens = reading.context;
  active.targets.clear();
  active.done = 0;
  result->nll.assign(reading.scored.size(), 0);
  if (!reading.scored.empty()) {
    active.tokens.insert(active.tokens.end(), reading.scored.begin(), reading.scored.end() - 1);
    // The context predicts nothing but, with its last token, the first that is scored.
    active.targets.assign(reading.context.empty() ? 0 : reading.context.size() - 1, -1);
    active.targets.insert(active.targets.end(),
                          reading.scored.begin() + (reading.context.empty() ? 1 : 0),
                          reading.scored.end());
    if (reading.context.empty()) {
      std::vector<float> logits(config().vocab);
      engine_.Logits(reading.from->last_hidden.data(), 1, logits.data());
      result->nll.front() = engine_.Loss(logits.data(), reading.scored.front());
    }
  }
  if (active.tokens.empty()) return;  // done already: the slot stays free
  active.reading = &reading;
  active.result = result;
  if (reading.from == nullptr) {
    engine_.slots().Clear(slot);
  } else {
    engine_.slots().Load(slot, reading.from->state.shift, reading.from->state.wkv);
  }
}

void Reader::Share() {
  size_t left = options_.tokens;
  size_t waiting = 0;
  for (Active& active : active_) {
    active.chunk = 0;
    waiting += active.reading != nullptr;
  }
  while (left > 0 && waiting > 0) {
    const size_t share = std::max<size_t>(1, left / waiting);
    waiting = 0;
    for (Active& active : active_) {
      if (active.reading == nullptr) continue;
      const size_t wanted = active.tokens.size() - active.done - active.chunk;
      const size_t given = std::min({share, wanted, left});
      active.chunk += given;
      left -= given;
      waiting += given < wanted;
    }
  }
}

void Reader::Finish(int slot) {
  Active& active = active_[slot];
  if (active.reading->harvest) {
    Harvested& harvested = active.result->harvested;
    harvested.state = state::State::Empty(state::Shape::Of(config()));
    engine_.slots().Store(slot, harvested.state.shift, harvested.state.wkv);
    const auto begin = hidden_.begin() + static_cast<int64_t>(slot) * config().width;
    harvested.last_hidden.assign(begin, begin + config().width);
  }
  active.reading = nullptr;
}

absl::StatusOr<std::vector<ReadResult>> Reader::Read(std::span<const Reading> readings,
                                                     const Progress& progress) {
  for (const Reading& reading : readings) DS_RETURN_IF_ERROR(Check(reading));
  std::vector<ReadResult> results(readings.size());
  // The longest first, so that no long one is left over to be read alone.
  std::vector<size_t> order(readings.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&readings](size_t a, size_t b) {
    const auto length = [](const Reading& r) { return r.context.size() + r.scored.size(); };
    return length(readings[a]) > length(readings[b]);
  });
  for (Active& active : active_) active.reading = nullptr;  // of a call that failed
  size_t next = 0;
  for (;;) {
    for (int slot = 0; slot < options_.sequences; ++slot) {
      while (active_[slot].reading == nullptr && next < order.size()) {
        const size_t index = order[next++];
        Begin(readings[index], &results[index], slot);
      }
    }
    Share();
    batch_.clear();
    int64_t tokens = 0;
    for (int slot = 0; slot < options_.sequences; ++slot) {
      Active& active = active_[slot];
      if (active.chunk == 0) continue;
      rwkv::Segment segment;
      segment.slot = slot;
      segment.tokens = std::span<const int32_t>(active.tokens).subspan(active.done, active.chunk);
      if (!active.targets.empty()) {
        segment.targets =
            std::span<const int32_t>(active.targets).subspan(active.done, active.chunk);
        segment.nll = nll_.data() + static_cast<size_t>(slot) * options_.tokens;
      }
      const bool last = active.done + active.chunk == active.tokens.size();
      if (last && active.reading->harvest) {
        segment.last_hidden = hidden_.data() + static_cast<size_t>(slot) * config().width;
      }
      tokens += static_cast<int64_t>(active.chunk);
      batch_.push_back(segment);
    }
    if (batch_.empty()) return results;
    DS_RETURN_IF_ERROR(engine_.Forward(batch_));
    for (const rwkv::Segment& segment : batch_) {
      Active& active = active_[segment.slot];
      // Token t's loss is that of the scored token behind it.
      const auto before = static_cast<int64_t>(active.reading->context.size()) - 1;
      for (size_t i = 0; i < segment.targets.size(); ++i) {
        if (segment.targets[i] < 0) continue;
        active.result->nll[static_cast<int64_t>(active.done + i) - before] = segment.nll[i];
      }
      active.done += active.chunk;
      if (active.done == active.tokens.size()) Finish(segment.slot);
    }
    if (progress) progress(tokens);
  }
}

}  // namespace dreamstate::evaluation
