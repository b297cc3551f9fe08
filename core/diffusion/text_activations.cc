#include "core/diffusion/text_activations.h"

#include <algorithm>

#include "core/base/status.h"

namespace dreamstate::diffusion {
namespace {

// A text that is being read.
struct Reading {
  std::vector<int32_t> tokens;           // behind the separator
  std::vector<std::vector<float>> taps;  // [taps], each [1 + tokens][D]
  std::vector<rwkv::Tap> wanted;
  size_t done = 0;
};

}  // namespace

absl::StatusOr<std::vector<std::vector<float>>> TextActivations(
    rwkv::Engine& engine, std::span<const std::vector<int32_t>> texts, int32_t separator,
    std::span<const int> taps) {
  const auto width = static_cast<size_t>(engine.config().width);
  const rwkv::Engine::Options& options = engine.options();
  const auto at_once =
      static_cast<size_t>(std::min({options.max_sequences, options.slots, options.max_tokens}));
  std::vector<std::vector<float>> out;
  for (size_t begin = 0; begin < texts.size(); begin += at_once) {
    const size_t count = std::min(at_once, texts.size() - begin);
    std::vector<Reading> readings(count);
    for (size_t i = 0; i < count; ++i) {
      Reading& reading = readings[i];
      reading.tokens = {separator};
      reading.tokens.insert(reading.tokens.end(), texts[begin + i].begin(), texts[begin + i].end());
      reading.taps.assign(taps.size(), std::vector<float>(reading.tokens.size() * width));
      engine.slots().Clear(static_cast<int>(i));
    }
    const size_t share = std::max<size_t>(1, static_cast<size_t>(options.max_tokens) / count);
    for (bool more = true; more;) {
      more = false;
      std::vector<rwkv::Segment> batch;
      for (size_t i = 0; i < count; ++i) {
        Reading& reading = readings[i];
        const size_t chunk = std::min(share, reading.tokens.size() - reading.done);
        if (chunk == 0) continue;
        reading.wanted.clear();
        for (size_t t = 0; t < taps.size(); ++t) {
          reading.wanted.push_back(
              {.layer = taps[t], .out = reading.taps[t].data() + reading.done * width});
        }
        batch.push_back({.slot = static_cast<int>(i),
                         .tokens = std::span(reading.tokens).subspan(reading.done, chunk),
                         .taps = reading.wanted});
        reading.done += chunk;
        more = more || reading.done < reading.tokens.size();
      }
      DS_RETURN_IF_ERROR(engine.Forward(batch));
    }
    for (const Reading& reading : readings) {
      std::vector<float> all;
      all.reserve((reading.tokens.size() - 1) * taps.size() * width);
      for (size_t token = 1; token < reading.tokens.size(); ++token) {
        for (const std::vector<float>& tap : reading.taps) {
          all.insert(all.end(), tap.begin() + static_cast<ptrdiff_t>(token * width),
                     tap.begin() + static_cast<ptrdiff_t>((token + 1) * width));
        }
      }
      out.push_back(std::move(all));
    }
  }
  return out;
}

}  // namespace dreamstate::diffusion
