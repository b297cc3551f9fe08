#include "core/rwkv/engine.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "kernels/activation/activation.h"
#include "kernels/norm/norm.h"
#include "kernels/runtime/bf16.h"
#include "kernels/runtime/cpu.h"
#include "kernels/sampling/log_sum_exp.h"
#include "kernels/token_shift/token_shift.h"
#include "kernels/wkv7/wkv7.h"

namespace dreamstate::rwkv {
namespace {

constexpr float kLayerNormEpsilon = 1e-5f;
constexpr float kGroupNormEpsilon = 64e-5f;

using kernels::Epilogue;
using kernels::GemmTask;

GemmTask Product(const kernels::PackedMatrix& w, const float* x, float* y, int rows,
                 Epilogue epilogue = Epilogue::kNone) {
  return {&w, x, w.inputs(), y, w.outputs(), rows, epilogue};
}

// Whether anything beyond the state is wanted after the last token.
bool WantsLast(const Segment& segment) {
  return segment.logits != nullptr || segment.last_hidden != nullptr;
}

// Where the logits of a batch go when they lie evenly, so that the head may write them there
// itself.
struct LogitsRows {
  float* first = nullptr;
  int64_t stride = 0;  // in floats; 0 when they do not, or when not everything wanted is logits
};

LogitsRows RowsOfLogits(std::span<const Segment> batch, int64_t vocab) {
  LogitsRows rows;
  const float* next = nullptr;
  for (const Segment& segment : batch) {
    if (!WantsLast(segment)) continue;
    if (segment.logits == nullptr) return {};
    if (rows.first == nullptr) {
      rows = {segment.logits, vocab};
    } else if (next == nullptr) {
      const auto bytes = static_cast<int64_t>(reinterpret_cast<uintptr_t>(segment.logits) -
                                              reinterpret_cast<uintptr_t>(rows.first));
      rows.stride = bytes / static_cast<int64_t>(sizeof(float));
      if (rows.stride < vocab) return {};
    } else if (segment.logits != next) {
      return {};
    }
    next = segment.logits == rows.first ? nullptr : segment.logits + rows.stride;
  }
  return rows;
}

absl::Status CheckSegment(const Segment& segment, const Config& config, int slots) {
  if (segment.slot < 0 || segment.slot >= slots) {
    return absl::InvalidArgumentError(
        StrCat("slot: expected 0 to ", slots - 1, ", found ", segment.slot));
  }
  if (segment.tokens.empty())
    return absl::InvalidArgumentError("tokens: expected at least one, found none");
  for (const int32_t token : segment.tokens) {
    if (token < 0 || token >= config.vocab) {
      return absl::InvalidArgumentError(
          StrCat("token: expected 0 to ", config.vocab - 1, ", found ", token));
    }
  }
  if (segment.nll != nullptr && segment.targets.size() != segment.tokens.size()) {
    return absl::InvalidArgumentError(StrCat("targets: expected as many as tokens (",
                                             segment.tokens.size(), "), found ",
                                             segment.targets.size()));
  }
  for (const int32_t target : segment.targets) {
    if (target < -1 || target >= config.vocab) {
      return absl::InvalidArgumentError(
          StrCat("target: expected -1 to ", config.vocab - 1, ", found ", target));
    }
  }
  for (const Tap& tap : segment.taps) {
    if (tap.layer < 0 || tap.layer >= config.layers) {
      return absl::InvalidArgumentError(
          StrCat("tap layer: expected 0 to ", config.layers - 1, ", found ", tap.layer));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Engine::Engine(std::shared_ptr<const Weights> weights, const Options& options,
               kernels::ThreadPool& pool)
    : weights_(std::move(weights)),
      options_(options),
      pool_(pool),
      slots_(weights_->config, options.slots),
      workspace_(*weights_, options.max_tokens, options.max_sequences) {
  workspace_.slot_seen.assign(options.slots, 0);
}

std::string Engine::numerics() const {
  const bool partly =
      weights_->format == WeightFormat::kInt8 && weights_->policy != FormatPolicy::Default();
  return StrCat(WeightFormatName(weights_->format),
                partly ? StrCat("(", weights_->policy.Letters(), ")") : "", "/",
                kernels::IsaName(kernels::ActiveIsa()));
}

absl::Status Engine::Check(std::span<const Segment> batch) {
  if (batch.size() > static_cast<size_t>(options_.max_sequences)) {
    return absl::InvalidArgumentError(StrCat("batch: expected at most ", options_.max_sequences,
                                             " sequences, found ", batch.size()));
  }
  ++workspace_.forwards;
  size_t total = 0;
  for (const Segment& segment : batch) {
    DS_RETURN_IF_ERROR(CheckSegment(segment, config(), slots_.count()));
    if (std::exchange(workspace_.slot_seen[segment.slot], workspace_.forwards) ==
        workspace_.forwards) {
      return absl::InvalidArgumentError(
          StrCat("slot: expected each once in a batch, found ", segment.slot, " twice"));
    }
    total += segment.tokens.size();
  }
  if (total > static_cast<size_t>(options_.max_tokens)) {
    return absl::InvalidArgumentError(
        StrCat("batch: expected at most ", options_.max_tokens, " tokens, found ", total));
  }
  return absl::OkStatus();
}

absl::Status Engine::Forward(std::span<const Segment> batch) {
  DS_RETURN_IF_ERROR(Check(batch));
  if (batch.empty()) return absl::OkStatus();
  const int rows = Embed(batch);
  for (int layer = 0; layer < config().layers; ++layer) {
    TimeMix(batch, layer, rows);
    ChannelMix(batch, layer, rows);
    CopyTaps(batch, layer);
  }
  Losses(batch);
  LastRows(batch);
  return absl::OkStatus();
}

void Engine::Logits(const float* last_hidden, int rows, float* logits) {
  Head(last_hidden, rows, logits, config().vocab);
}

void Engine::Head(const float* hidden, int rows, float* logits, int64_t stride) {
  GemmTask head = Product(weights_->head, hidden, logits, rows);
  head.y_stride = stride;
  Products({&head, 1});
}

float Engine::Loss(const float* logits, int32_t target) {
  float nll;
  const int vocab = config().vocab;
  kernels::NegativeLogLikelihood(logits, vocab, 1, vocab, &target, &nll, pool_);
  return nll;
}

int Engine::Embed(std::span<const Segment> batch) {
  const int width = config().width;
  workspace_.tokens.clear();
  float* row = workspace_.x.get();
  for (const Segment& segment : batch) {
    workspace_.tokens.push_back(static_cast<int>(segment.tokens.size()));
    for (const int32_t token : segment.tokens) {
      if (weights_->format == WeightFormat::kFloat32) {
        std::memcpy(row, weights_->embedding_f32.get() + int64_t{token} * width,
                    width * sizeof(float));
      } else {
        const uint16_t* embedding = weights_->embedding_bf16.get() + int64_t{token} * width;
        for (int i = 0; i < width; ++i) row[i] = kernels::Bf16ToFloat(embedding[i]);
      }
      row += width;
    }
  }
  return static_cast<int>((row - workspace_.x.get()) / width);
}

void Engine::Products(std::span<const GemmTask> tasks) {
  kernels::Gemm(tasks, {workspace_.gemm_scratch.get(), workspace_.gemm_scratch_bytes}, pool_);
}

// Points workspace_.carried at one part of every sequence's shift state.
void Engine::CarryShift(std::span<const Segment> batch, int layer, int part) {
  workspace_.carried.clear();
  for (const Segment& segment : batch)
    workspace_.carried.push_back(slots_.shift(segment.slot, layer, part));
}

void Engine::TimeMix(std::span<const Segment> batch, int layer, int rows) {
  const TimeMixWeights& weights = weights_->layers[layer].time_mix;
  Workspace& ws = workspace_;
  const Config& sizes = config();
  const bool first = layer == 0;

  kernels::LayerNorm(ws.x.get(), weights.ln_weight.get(), weights.ln_bias.get(), kLayerNormEpsilon,
                     rows, sizes.width, ws.z.get(), pool_);
  CarryShift(batch, layer, 0);
  const std::array<const float*, 6> mixes = {weights.x_r.get(), weights.x_w.get(),
                                             weights.x_k.get(), weights.x_v.get(),
                                             weights.x_a.get(), weights.x_g.get()};
  const std::array<float*, 6> mixed = {ws.x_r.get(), ws.x_w.get(), ws.x_k.get(),
                                       ws.x_v.get(), ws.x_a.get(), ws.x_g.get()};
  kernels::TokenShift({sizes.width, ws.tokens, ws.carried, ws.z.get(), mixes, mixed}, pool_);

  // Layer 0 has no value residual: its products come last, to be left out there.
  const std::array<GemmTask, 7> inward = {
      Product(weights.receptance, ws.x_r.get(), ws.r.get(), rows),
      Product(weights.key, ws.x_k.get(), ws.k.get(), rows),
      Product(weights.value, ws.x_v.get(), ws.v.get(), rows),
      Product(weights.w1, ws.x_w.get(), ws.rank_w.get(), rows, Epilogue::kTanh),
      Product(weights.a1, ws.x_a.get(), ws.rank_a.get(), rows),
      Product(weights.g1, ws.x_g.get(), ws.rank_g.get(), rows, Epilogue::kSigmoid),
      Product(weights.v1, ws.x_v.get(), ws.rank_v.get(), rows)};
  Products(std::span(inward).first(first ? 6 : 7));
  const std::array<GemmTask, 4> outward = {
      Product(weights.w2, ws.rank_w.get(), ws.w.get(), rows),
      Product(weights.a2, ws.rank_a.get(), ws.a.get(), rows),
      Product(weights.g2, ws.rank_g.get(), ws.g.get(), rows),
      Product(weights.v2, ws.rank_v.get(), ws.v_mix.get(), rows)};
  Products(std::span(outward).first(first ? 3 : 4));

  if (first) std::memcpy(ws.v_first.get(), ws.v.get(), int64_t{rows} * sizes.width * sizeof(float));
  kernels::TimeMixGates gates;
  gates.heads = sizes.heads;
  gates.head_size = sizes.head_size;
  gates.w0 = weights.w0.get();
  gates.a0 = weights.a0.get();
  gates.v0 = first ? nullptr : weights.v0.get();
  gates.k_k = weights.k_k.get();
  gates.k_a = weights.k_a.get();
  gates.w = ws.w.get();
  gates.a = ws.a.get();
  gates.v_mix = first ? nullptr : ws.v_mix.get();
  gates.v_first = first ? nullptr : ws.v_first.get();
  gates.k = ws.k.get();
  gates.v = ws.v.get();
  gates.kk = ws.kk.get();
  kernels::TimeMixGateRows(gates, rows, pool_);

  ws.wkv.clear();
  for (const Segment& segment : batch) ws.wkv.push_back(slots_.wkv(segment.slot, layer));
  kernels::Wkv7({sizes.heads, sizes.head_size, ws.tokens, ws.wkv, ws.r.get(), ws.w.get(),
                 ws.k.get(), ws.v.get(), ws.a.get(), ws.kk.get()},
                ws.y.get(), pool_);
  kernels::GroupNormBonusGateRows(
      {sizes.heads, sizes.head_size, kGroupNormEpsilon, weights.ln_x_weight.get(),
       weights.ln_x_bias.get(), weights.r_k.get(), ws.y.get(), ws.r.get(), ws.k.get(), ws.v.get(),
       ws.g.get()},
      rows, ws.y.get(), pool_);
  const GemmTask output = Product(weights.output, ws.y.get(), ws.x.get(), rows, Epilogue::kAdd);
  Products({&output, 1});
}

void Engine::ChannelMix(std::span<const Segment> batch, int layer, int rows) {
  const ChannelMixWeights& weights = weights_->layers[layer].channel_mix;
  Workspace& ws = workspace_;
  const int width = config().width;
  kernels::LayerNorm(ws.x.get(), weights.ln_weight.get(), weights.ln_bias.get(), kLayerNormEpsilon,
                     rows, width, ws.z.get(), pool_);
  CarryShift(batch, layer, 1);
  const float* mix = weights.x_k.get();
  float* mixed = ws.x_k.get();
  kernels::TokenShift({width, ws.tokens, ws.carried, ws.z.get(), {&mix, 1}, {&mixed, 1}}, pool_);
  const GemmTask key =
      Product(weights.key, ws.x_k.get(), ws.ffn.get(), rows, Epilogue::kSquaredRelu);
  Products({&key, 1});
  const GemmTask value = Product(weights.value, ws.ffn.get(), ws.x.get(), rows, Epilogue::kAdd);
  Products({&value, 1});
}

void Engine::CopyTaps(std::span<const Segment> batch, int layer) {
  const int64_t width = config().width;
  const float* row = workspace_.x.get();
  for (const Segment& segment : batch) {
    const int64_t elements = static_cast<int64_t>(segment.tokens.size()) * width;
    for (const Tap& tap : segment.taps) {
      if (tap.layer == layer) std::memcpy(tap.out, row, elements * sizeof(float));
    }
    row += elements;
  }
}

// Losses of given targets, in chunks of rows so that logits of a long prompt never exist at once.
void Engine::Losses(std::span<const Segment> batch) {
  Workspace& ws = workspace_;
  const Config& sizes = config();
  const float* row = ws.x.get();
  for (const Segment& segment : batch) {
    const int64_t tokens = static_cast<int64_t>(segment.tokens.size());
    if (segment.nll != nullptr) {
      for (int64_t begin = 0; begin < tokens; begin += ws.rows_of_logits) {
        const int count = static_cast<int>(std::min<int64_t>(tokens - begin, ws.rows_of_logits));
        kernels::LayerNorm(row + begin * sizes.width, weights_->ln_out_weight.get(),
                           weights_->ln_out_bias.get(), kLayerNormEpsilon, count, sizes.width,
                           ws.hidden.get(), pool_);
        Logits(ws.hidden.get(), count, ws.logits.get());
        kernels::NegativeLogLikelihood(ws.logits.get(), sizes.vocab, count, sizes.vocab,
                                       segment.targets.data() + begin, segment.nll + begin, pool_);
      }
    }
    row += tokens * sizes.width;
  }
}

// Hidden vector and logits of every sequence's last token, one product for all of them.
void Engine::LastRows(std::span<const Segment> batch) {
  Workspace& ws = workspace_;
  const Config& sizes = config();
  const float* row = ws.x.get();
  int wanted = 0;
  for (const Segment& segment : batch) {
    row += static_cast<int64_t>(segment.tokens.size()) * sizes.width;
    if (!WantsLast(segment)) continue;
    float* hidden = ws.hidden.get() + int64_t{wanted++} * sizes.width;
    kernels::LayerNorm(row - sizes.width, weights_->ln_out_weight.get(),
                       weights_->ln_out_bias.get(), kLayerNormEpsilon, 1, sizes.width, hidden,
                       pool_);
    if (segment.last_hidden != nullptr)
      std::memcpy(segment.last_hidden, hidden, sizes.width * sizeof(float));
  }
  const bool any_logits = std::any_of(
      batch.begin(), batch.end(), [](const Segment& segment) { return segment.logits != nullptr; });
  if (!any_logits) return;
  const LogitsRows rows = RowsOfLogits(batch, sizes.vocab);
  if (rows.stride > 0) {
    Head(ws.hidden.get(), wanted, rows.first, rows.stride);
    return;
  }
  Logits(ws.hidden.get(), wanted, ws.logits.get());
  const float* logits = ws.logits.get();
  for (const Segment& segment : batch) {
    if (!WantsLast(segment)) continue;
    if (segment.logits != nullptr) std::memcpy(segment.logits, logits, sizes.vocab * sizeof(float));
    logits += sizes.vocab;
  }
}

}  // namespace dreamstate::rwkv
