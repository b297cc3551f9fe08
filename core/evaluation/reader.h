// Reads many token sequences with one engine, many of them at a time, for measurements: from any
// state, what the tokens cost and which state they leave. Spec section 7; the same engine that
// serves, so that what is measured is what will be served.
//
// A sequence's results are the same to the bit whatever else is read with it (core/rwkv/engine.h).
// Not thread-safe. Owns its engine; weights and pool are shared.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rwkv/engine.h"
#include "core/state/state.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::evaluation {

// A state as a text leaves it.
struct Harvested {
  state::State state;
  std::vector<float> last_hidden;  // [D] after ln_out; empty = unknown
};

// One sequence: `context` is read, then `scored` is.
struct Reading {
  // Where it begins; null = the zero state. Outlives the call.
  const Harvested* from = nullptr;
  std::vector<int32_t> context;
  // Tokens whose loss is wanted; the last is not read. Without a context the first one's loss is
  // that of `from`'s last_hidden, which must then be known.
  std::vector<int32_t> scored = {};
  // The state after the context is wanted; nothing may be scored then.
  bool harvest = false;
};

struct ReadResult {
  std::vector<float> nll;  // [scored], nats
  Harvested harvested;     // where it was asked for
};

class Reader {
 public:
  struct Options {
    int sequences = 32;  // read at a time: as many states are held
    int tokens = 1024;   // of one step, all sequences together; >= sequences
  };
  // Told how many tokens were read since it was last told.
  using Progress = std::function<void(int64_t tokens)>;

  Reader(std::shared_ptr<const rwkv::Weights> weights, const Options& options,
         kernels::ThreadPool& pool);

  // One result a reading, in order. INVALID_ARGUMENT for a token outside of the vocabulary, a state
  // of another shape, or a reading that asks for what it cannot have.
  absl::StatusOr<std::vector<ReadResult>> Read(std::span<const Reading> readings,
                                               const Progress& progress = {});

  const rwkv::Config& config() const { return engine_.config(); }
  std::string numerics() const { return engine_.numerics(); }

 private:
  // A reading in progress, in the slot of the same index.
  struct Active {
    const Reading* reading = nullptr;  // null = the slot is free
    ReadResult* result = nullptr;
    std::vector<int32_t> tokens;   // all that are read
    std::vector<int32_t> targets;  // [tokens] or empty
    size_t done = 0;               // of the tokens
    size_t chunk = 0;              // in this step
  };

  absl::Status Check(const Reading& reading) const;
  void Begin(const Reading& reading, ReadResult* result, int slot);
  // Shares the step's tokens out, equally as far as the sequences are long enough.
  void Share();
  void Finish(int slot);

  rwkv::Engine engine_;
  const Options options_;
  std::vector<Active> active_;        // [sequences]
  std::vector<rwkv::Segment> batch_;  // of a step
  std::vector<float> nll_;            // [sequences][tokens]
  std::vector<float> hidden_;         // [sequences][D]
};

}  // namespace dreamstate::evaluation
