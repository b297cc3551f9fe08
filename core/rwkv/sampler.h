// Chooses the next token of one branch. Order: penalties and bias, then top-k, top-p and min-p on
// the untempered probabilities, then temperature, then one draw keyed by (seed, branch, position).
// Penalties count from the sampler's first token; as in the reference sampler, digits, spaces and
// tabs get the presence penalty but are not counted for the frequency penalty. No allocation in
// Sample. Not thread-safe: one a branch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/text/tokenizer.h"

namespace dreamstate::rwkv {

struct SamplingOptions {
  float temperature = 1.0f;        // 0 = greedy; at most 10
  int top_k = 0;                   // 0 = all
  float top_p = 1.0f;              // [0, 1]; 0 = only the best
  float min_p = 0.0f;              // [0, 1)
  float presence_penalty = 0.0f;   // [-10, 10]
  float frequency_penalty = 0.0f;  // [-10, 10]
  float penalty_decay = 0.996f;    // [0, 1]
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;
};

// INVALID_ARGUMENT with the field's name ("top_p") when a value is out of its range or not finite.
absl::Status ValidateSampling(const SamplingOptions& options, int vocab);

class Sampler {
 public:
  // `tokenizer` says which tokens penalties count; it and its ids decide nothing else.
  Sampler(const SamplingOptions& options, uint32_t branch, int vocab,
          std::shared_ptr<const text::Tokenizer> tokenizer);

  // Sample's answer when a logit is NaN, or the largest infinite: a state that overflowed, not a
  // caller's mistake.
  static constexpr int32_t kNotFinite = -1;

  // The token after `logits` [V] (overwritten by penalties and bias), or kNotFinite. The i-th call
  // draws with position i.
  int32_t Sample(std::span<float> logits);

  // The probabilities that Sample would draw from, for tests against the reference: [V].
  void Probabilities(std::span<float> logits, std::span<float> probabilities);

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };
  static constexpr float kNotGenerated = -1.0f;

  bool Penalises() const;
  void Penalise(std::span<float> logits) const;
  void Count(int32_t token);
  // Fills candidates_ and their weights_; returns the weights' sum, NaN when a logit is not finite.
  double Select(std::span<const float> logits);
  void KeepMostProbable(float best);

  SamplingOptions options_;
  uint32_t branch_;
  uint64_t position_ = 0;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
  std::vector<float> counts_;       // [V] decayed occurrences; empty without penalties
  std::vector<int32_t> generated_;  // tokens generated so far, each once
};

// Log-probabilities before sampling options: that of `token`, and the `top` best (best first).
struct LogProbs {
  float log_prob;
  std::vector<std::pair<int32_t, float>> top;
};
LogProbs ComputeLogProbs(std::span<const float> logits, int32_t token, int top);

}  // namespace dreamstate::rwkv
