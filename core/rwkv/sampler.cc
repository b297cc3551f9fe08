#include "core/rwkv/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::rwkv {
namespace {

// A NaN fails every comparison, so it is out of every range.
absl::Status CheckRange(const char* field, float value, float low, float high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, StrCat("expected ", low, " to ", high, ", found ", value));
}

// Orders a heap with the most probable token on top; equal ones by ascending id, so that ties never
// depend on the heap.
struct LessProbable {
  template <typename Candidate>
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.logit != b.logit ? a.logit < b.logit : a.token > b.token;
  }
};

}  // namespace

absl::Status ValidateSampling(const SamplingOptions& options, int vocab) {
  DS_RETURN_IF_ERROR(CheckRange("temperature", options.temperature, 0.0f, 10.0f));
  if (options.top_k < 0)
    return FieldError("top_k", StrCat("expected 0 or more, found ", options.top_k));
  DS_RETURN_IF_ERROR(CheckRange("top_p", options.top_p, 0.0f, 1.0f));
  if (!(options.min_p >= 0.0f && options.min_p < 1.0f)) {
    return FieldError("min_p", StrCat("expected 0 up to but not 1, found ", options.min_p));
  }
  DS_RETURN_IF_ERROR(CheckRange("presence_penalty", options.presence_penalty, -10.0f, 10.0f));
  DS_RETURN_IF_ERROR(CheckRange("frequency_penalty", options.frequency_penalty, -10.0f, 10.0f));
  DS_RETURN_IF_ERROR(CheckRange("penalty_decay", options.penalty_decay, 0.0f, 1.0f));
  constexpr size_t kMaxBiases = 1024;
  if (options.logit_bias.size() > kMaxBiases) {
    return FieldError("logit_bias", StrCat("expected at most ", kMaxBiases, " entries, found ",
                                           options.logit_bias.size()));
  }
  std::vector<int32_t> seen;
  for (size_t i = 0; i < options.logit_bias.size(); ++i) {
    const auto& [token, bias] = options.logit_bias[i];
    if (token < 0 || token >= vocab) {
      return FieldError(StrCat("logit_bias[", i, "].token_id"),
                        StrCat("expected 0 to ", vocab - 1, ", found ", token));
    }
    DS_RETURN_IF_ERROR(
        CheckRange(StrCat("logit_bias[", i, "].bias").c_str(), bias, -100.0f, 100.0f));
    seen.push_back(token);
  }
  std::sort(seen.begin(), seen.end());
  const auto twice = std::adjacent_find(seen.begin(), seen.end());
  if (twice != seen.end())
    return FieldError("logit_bias",
                      StrCat("expected each token once, found token ", *twice, " twice"));
  return absl::OkStatus();
}

Sampler::Sampler(const SamplingOptions& options, uint32_t branch, int vocab,
                 std::shared_ptr<const text::Tokenizer> tokenizer)
    : options_(options), branch_(branch), tokenizer_(std::move(tokenizer)) {
  candidates_.reserve(vocab);
  weights_.reserve(vocab);
  if (Penalises()) {
    counts_.assign(vocab, kNotGenerated);
    generated_.reserve(vocab);
  }
}

int32_t Sampler::Sample(std::span<float> logits) {
  Penalise(logits);
  const double total = Select(logits);
  if (!std::isfinite(total)) return kNotFinite;
  const double threshold = DecodeUniform(options_.seed, branch_, position_++) * total;
  double sum = 0.0;
  size_t chosen = 0;
  // Rounding may leave the sum below the threshold at the very end: then it is the last candidate.
  for (; chosen + 1 < candidates_.size(); ++chosen) {
    sum += weights_[chosen];
    if (threshold < sum) break;
  }
  const int32_t token = candidates_[chosen].token;
  Count(token);
  return token;
}

void Sampler::Probabilities(std::span<float> logits, std::span<float> probabilities) {
  Penalise(logits);
  const double total = Select(logits);
  std::fill(probabilities.begin(), probabilities.end(), 0.0f);
  for (size_t i = 0; i < candidates_.size(); ++i) {
    probabilities[candidates_[i].token] = static_cast<float>(weights_[i] / total);
  }
}

bool Sampler::Penalises() const {
  return options_.presence_penalty != 0.0f || options_.frequency_penalty != 0.0f;
}

void Sampler::Penalise(std::span<float> logits) const {
  for (const auto& [token, bias] : options_.logit_bias) logits[token] += bias;
  for (const int32_t token : generated_) {
    logits[token] -= options_.presence_penalty + counts_[token] * options_.frequency_penalty;
  }
}

void Sampler::Count(int32_t token) {
  if (!Penalises()) return;
  for (const int32_t earlier : generated_) counts_[earlier] *= options_.penalty_decay;
  if (counts_[token] == kNotGenerated) {
    generated_.push_back(token);
    counts_[token] = 0.0f;
  }
  if (tokenizer_->CountsForPenalties(token)) counts_[token] += 1.0f;
}

double Sampler::Select(std::span<const float> logits) {
  candidates_.clear();
  weights_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  // No order among NaN: sorting them would be undefined.
  if (std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isnan(logit); }))
    return std::nan("");
  const float best =
      std::max_element(candidates_.begin(), candidates_.end(), LessProbable())->logit;
  if (std::isinf(best)) return std::nan("");

  const bool greedy = options_.temperature == 0.0f || options_.top_k == 1 || options_.top_p == 0.0f;
  if (greedy) {
    candidates_[0] = *std::max_element(candidates_.begin(), candidates_.end(), LessProbable());
    candidates_.resize(1);
  } else if (options_.top_k > 0 || options_.top_p < 1.0f) {
    KeepMostProbable(best);
  }
  if (options_.min_p > 0.0f) {
    const float lowest = best + std::log(options_.min_p);
    std::erase_if(candidates_,
                  [&](const Candidate& candidate) { return candidate.logit < lowest; });
  }

  double total = 0.0;
  const float temperature = greedy ? 1.0f : options_.temperature;
  for (const Candidate& candidate : candidates_) {
    const double weight = std::exp((candidate.logit - best) / temperature);
    weights_.push_back(weight);
    total += weight;
  }
  return total;
}

// Leaves the candidates of top_k and top_p, most probable first. A heap: few are kept of many.
void Sampler::KeepMostProbable(float best) {
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += std::exp(candidate.logit - best);
  const size_t most = options_.top_k > 0 ? std::min<size_t>(options_.top_k, candidates_.size())
                                         : candidates_.size();
  std::make_heap(candidates_.begin(), candidates_.end(), LessProbable());
  auto heap_end = candidates_.end();
  double kept_mass = 0.0;
  float cutoff = 0.0f;
  bool reached = false;
  size_t kept = 0;
  while (kept < most) {
    // As probable as the one that reached top_p is still in.
    if (reached && candidates_.front().logit < cutoff) break;
    std::pop_heap(candidates_.begin(), heap_end, LessProbable());
    --heap_end;
    ++kept;
    kept_mass += std::exp(heap_end->logit - best) / total;
    if (!reached && options_.top_p < 1.0f && kept_mass >= options_.top_p) {
      reached = true;
      cutoff = heap_end->logit;
    }
  }
  // Popped candidates lie at the end, the most probable last.
  std::reverse(candidates_.begin(), candidates_.end());
  candidates_.resize(kept);
}

LogProbs ComputeLogProbs(std::span<const float> logits, int32_t token, int top) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double total = 0.0;
  for (const float logit : logits) total += std::exp(logit - best);
  const double log_total = std::log(total) + best;
  LogProbs result;
  result.log_prob = static_cast<float>(logits[token] - log_total);
  if (top == 0) return result;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t count = std::min<size_t>(top, order.size());
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (size_t i = 0; i < count; ++i)
    result.top.emplace_back(order[i], static_cast<float>(logits[order[i]] - log_total));
  return result;
}

}  // namespace dreamstate::rwkv
