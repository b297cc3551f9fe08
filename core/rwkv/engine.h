// Runs a backbone over a ragged batch: prefill and decode are the same call. RWKV-7, one layer
// after the other, each step over the tokens of all sequences at once.
//
// 1. A sequence's results are the same to the bit alone, in any batch, and however its tokens are
// split into calls.
// 2. Forward allocates nothing: all scratch is the Workspace, made once.
// 3. Knows no store, no text and no network; states are slots (core/rwkv/slots.h).
// Not thread-safe: one loop owns an engine. Weights may be shared between engines.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "core/rwkv/slots.h"
#include "core/rwkv/weights.h"
#include "core/rwkv/workspace.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::rwkv {

// An activation to copy out: the residual stream [D] after each token, behind layer `layer` (0 .. L
// - 1).
struct Tap {
  int layer;
  float* out;  // [tokens][D]
};

// One sequence's share of a batch: tokens to read into a slot, and what is wanted from reading
// them. Wants may be combined; an unset pointer or empty span wants nothing.
struct Segment {
  int slot;
  std::span<const int32_t> tokens;  // >= 1, each in [0, V)
  // Logits after the last token, [V].
  float* logits = nullptr;
  // ln_out's output after the last token, [D]: Logits() of it equals `logits` to the bit.
  float* last_hidden = nullptr;
  // nll[i] = -ln p(targets[i] | everything up to tokens[i]) in nats; as many as tokens; target -1
  // gives 0.
  std::span<const int32_t> targets = {};
  float* nll = nullptr;
  std::span<const Tap> taps = {};
};

class Engine {
 public:
  struct Options {
    int max_tokens = 512;    // of one Forward, all segments together
    int max_sequences = 64;  // segments of one Forward
    int slots = 64;
  };

  Engine(std::shared_ptr<const Weights> weights, const Options& options, kernels::ThreadPool& pool);

  // Advances every segment's slot. Slots of one batch are distinct. INVALID_ARGUMENT (nothing is
  // changed) for a slot, token, target or layer out of range, a slot named twice, an empty segment,
  // or a batch over the budget.
  absl::Status Forward(std::span<const Segment> batch);

  // logits[i] = head(last_hidden[i]) for 1 <= rows <= max_sequences. Both row-major: [rows][D],
  // [rows][V].
  void Logits(const float* last_hidden, int rows, float* logits);

  // -ln p(target) in nats of one row of logits [V], to the bit what Forward gives for `nll`. target
  // in [0, V).
  float Loss(const float* logits, int32_t target);

  Slots& slots() { return slots_; }
  const Weights& weights() const { return *weights_; }
  const Config& config() const { return weights_->config; }
  const Options& options() const { return options_; }
  // What computes: "bf16/avx512", "int8/avx512"; where not every kind of matrix is int8, which are:
  // "int8(rkvoKh)/avx512" (FormatPolicy::Letters). Engines of one backbone that say the same give
  // the same bits. Goes into records.
  std::string numerics() const;

 private:
  absl::Status Check(std::span<const Segment> batch);
  // Fills the residual stream; returns its rows.
  int Embed(std::span<const Segment> batch);
  void TimeMix(std::span<const Segment> batch, int layer, int rows);
  void ChannelMix(std::span<const Segment> batch, int layer, int rows);
  void CopyTaps(std::span<const Segment> batch, int layer);
  void Losses(std::span<const Segment> batch);
  void LastRows(std::span<const Segment> batch);
  void CarryShift(std::span<const Segment> batch, int layer, int part);
  void Products(std::span<const kernels::GemmTask> tasks);
  // logits: [rows][stride]
  void Head(const float* hidden, int rows, float* logits, int64_t stride);

  std::shared_ptr<const Weights> weights_;
  Options options_;
  kernels::ThreadPool& pool_;
  Slots slots_;
  Workspace workspace_;
};

}  // namespace dreamstate::rwkv
