// Weights and engines for tests, over a thread pool of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/rwkv/engine.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::testing {

// An engine and its pool.
struct EngineFixture {
  EngineFixture(const tensors::TensorSet& set, rwkv::WeightFormat format,
                rwkv::Engine::Options options = {}, int threads = 2)
      : pool(threads), engine(rwkv::Weights::Load(set, format).value(), options, pool) {
    for (int slot = 0; slot < options.slots; ++slot) engine.slots().Clear(slot);
  }

  // Reads tokens into a slot one call at a time of at most `step` tokens; returns the logits after
  // the last.
  std::vector<float> Read(int slot, std::span<const int32_t> tokens, size_t step) {
    std::vector<float> logits(engine.config().vocab);
    for (size_t begin = 0; begin < tokens.size(); begin += step) {
      rwkv::Segment segment;
      segment.slot = slot;
      segment.tokens = tokens.subspan(begin, std::min(step, tokens.size() - begin));
      segment.logits = logits.data();
      const absl::Status status = engine.Forward({&segment, 1});
      if (!status.ok()) throw std::runtime_error(status.ToString());
    }
    return logits;
  }

  // A slot's state, shift then wkv, canonical.
  std::vector<float> State(int slot) {
    const rwkv::Config& config = engine.config();
    std::vector<float> state(config.shift_elements() + config.wkv_elements());
    const std::span<float> all(state);
    engine.slots().Store(slot, all.first(config.shift_elements()),
                         all.subspan(config.shift_elements()));
    return state;
  }

  kernels::ThreadPool pool;
  rwkv::Engine engine;
};

}  // namespace dreamstate::testing
