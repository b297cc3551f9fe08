#include "core/diffusion/state_generator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/dit.h"
#include "core/diffusion/flow.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::diffusion {
namespace {

using torch::Tensor;

constexpr int kMostSteps = 10'000;

class Generator : public StateGenerator {
 public:
  Generator(StateCodec codec, std::unique_ptr<Dit> dit, torch::ScalarType products)
      : codec_(std::move(codec)), dit_(std::move(dit)), products_(products) {}

  const StateCodec& codec() const override { return codec_; }
  const DitSizes& sizes() const override { return dit_->sizes(); }

  absl::StatusOr<std::vector<state::State>> Generate(
      std::span<const StateRequest> requests, const GenerateOptions& options) const override {
    if (requests.empty()) return std::vector<state::State>();
    if (options.steps < 1 || options.steps > kMostSteps) {
      return FieldError("steps", StrCat("expected 1 to ", kMostSteps, ", found ", options.steps));
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      DS_RETURN_IF_ERROR(WithFieldPrefix(Check(requests[i]), StrCat("requests[", i, "]")));
      if (requests[i].noise != requests[0].noise) {
        return FieldError(StrCat("requests[", i, "].noise"), "expected that of the others");
      }
    }
    try {
      const torch::NoGradGuard no_gradients;
      const auto samples = static_cast<int64_t>(requests.size());
      const bool mean = options.mode == GenerateMode::kMean;
      const int steps = mean ? 1 : options.steps;
      bool told_to_stop = false;
      SampleOptions sampling = {.steps = steps,
                                .solver = Solver::kHeun,
                                .from_time = 1 - requests[0].noise,
                                .code = Codes(requests),
                                .known = Known(requests),
                                .products = products_};
      if (options.on_step) {
        sampling.on_step = [&](int step) {
          told_to_stop = !options.on_step(step, steps);
          return !told_to_stop;
        };
      }
      const Tensor code =
          Sample(*dit_, SampleNoise(dit_->sizes(), options.seed, options.first_sample, samples),
                 Conditions(requests), sampling)
              .contiguous();
      if (told_to_stop) return absl::CancelledError("told to stop before the states were made");
      std::vector<state::State> states;
      for (int64_t i = 0; i < samples; ++i) {
        states.push_back(
            codec_.DecodeState({code.const_data_ptr<float>() + i * codec_.code_elements(),
                                static_cast<size_t>(codec_.code_elements())}));
        KeepExactly(requests[static_cast<size_t>(i)], &states.back());
      }
      return states;
    } catch (const c10::OutOfMemoryError& error) {
      return absl::ResourceExhaustedError(StrCat("generating: ", error.what_without_backtrace()));
    } catch (const c10::Error& error) {
      return absl::InternalError(StrCat("generating: ", error.what_without_backtrace()));
    }
  }

 private:
  absl::Status Check(const StateRequest& request) const {
    for (size_t i = 0; i < request.conditions.size(); ++i) {
      const StateCondition& condition = request.conditions[i];
      const auto wrong = [i](std::string_view field, std::string_view what) {
        return FieldError(StrCat("conditions[", i, "].", field), what);
      };
      if (condition.label < -1 || condition.label >= dit_->sizes().labels) {
        return wrong("label", StrCat("expected one of ", dit_->sizes().labels, " labels, found ",
                                     condition.label));
      }
      if (condition.text.size() % static_cast<size_t>(dit_->sizes().activation_width) != 0) {
        return wrong("text",
                     StrCat("expected activations of width ", dit_->sizes().activation_width));
      }
      if (!std::isfinite(condition.weight) || condition.weight == 0) {
        return wrong("weight", StrCat("expected a number other than 0, found ", condition.weight));
      }
    }
    const bool from_noise = request.noise == 1;
    if (!(request.noise > 0) || request.noise > 1) {
      return FieldError("noise", StrCat("expected above 0 to 1, found ", request.noise));
    }
    if (request.from == nullptr) {
      if (from_noise && request.keep.empty()) return absl::OkStatus();
      return FieldError("from", "expected a state to keep something of, found none");
    }
    if (request.from->shape != codec_.shape()) {
      return FieldError("from", "expected a state of the backbone's shape");
    }
    DS_RETURN_IF_ERROR(WithFieldPrefix(request.from->Validate(), "from"));
    const auto heads = static_cast<size_t>(codec_.shape().layers * codec_.shape().heads);
    if (!request.keep.empty() && request.keep.size() != heads) {
      return FieldError("keep", StrCat("expected one for each of ", heads, " layers' heads, found ",
                                       request.keep.size()));
    }
    if (!request.keep.empty() && !from_noise) {
      return FieldError("noise", "expected 1 where layers or heads are kept");
    }
    return absl::OkStatus();
  }

  // The codes that states are made on; undefined when none is.
  Tensor Codes(std::span<const StateRequest> requests) const {
    Tensor codes;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].from == nullptr) continue;
      if (!codes.defined()) {
        codes = torch::zeros(
            {static_cast<int64_t>(requests.size()), codec_.tokens(), codec_.token_size()});
      }
      codec_.Encode(requests[i].from->wkv, {codes.mutable_data_ptr<float>() +
                                                static_cast<int64_t>(i) * codec_.code_elements(),
                                            static_cast<size_t>(codec_.code_elements())});
    }
    return codes;
  }

  Tensor Known(std::span<const StateRequest> requests) const {
    Tensor known;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].keep.empty()) continue;
      if (!known.defined()) {
        known =
            torch::zeros({static_cast<int64_t>(requests.size()), codec_.tokens()}, torch::kBool);
      }
      for (size_t head = 0; head < requests[i].keep.size(); ++head) {
        if (!requests[i].keep[head]) continue;
        known[static_cast<int64_t>(i)]
            .narrow(0, static_cast<int64_t>(head) * codec_.blocks(), codec_.blocks())
            .fill_(true);
      }
    }
    return known;
  }

  // What is kept has not gone through the codec, but for the gauge that the codec removes.
  void KeepExactly(const StateRequest& request, state::State* state) const {
    const auto size = static_cast<size_t>(codec_.shape().head_size) *
                      static_cast<size_t>(codec_.shape().head_size);
    for (size_t head = 0; head < request.keep.size(); ++head) {
      if (!request.keep[head]) continue;
      const auto from = request.from->wkv.begin() + static_cast<ptrdiff_t>(head * size);
      std::copy_n(from, size, state->wkv.begin() + static_cast<ptrdiff_t>(head * size));
    }
  }

  // One list of conditions for all samples: the n-th ones of all, absent ones of weight 0.
  std::vector<WeightedCondition> Conditions(std::span<const StateRequest> requests) const {
    const DitSizes& sizes = dit_->sizes();
    const auto samples = static_cast<int64_t>(requests.size());
    size_t most = 0;
    for (const StateRequest& request : requests) most = std::max(most, request.conditions.size());
    std::vector<WeightedCondition> list;
    for (size_t n = 0; n < most; ++n) {
      WeightedCondition weighted = {DitCondition::None(sizes, samples, torch::kCPU),
                                    torch::zeros({samples})};
      DitCondition& condition = weighted.condition;
      int64_t longest = 0;
      const auto one = [&](int64_t i) -> const StateCondition* {
        const StateRequest& request = requests[static_cast<size_t>(i)];
        return n < request.conditions.size() ? &request.conditions[n] : nullptr;
      };
      const auto tokens = [&](const StateCondition& of) {
        return static_cast<int64_t>(of.text.size()) / sizes.activation_width;
      };
      for (int64_t i = 0; i < samples; ++i) {
        if (one(i) != nullptr) longest = std::max(longest, tokens(*one(i)));
      }
      if (longest > 0) condition.text = torch::zeros({samples, longest, sizes.activation_width});
      for (int64_t i = 0; i < samples; ++i) {
        const StateCondition* told = one(i);
        if (told == nullptr) continue;
        weighted.weight[i] = told->weight;
        if (told->label >= 0) condition.label[i] = int64_t{told->label};
        if (told->text.empty()) continue;
        condition.text_length[i] = tokens(*told);
        condition.text[i]
            .narrow(0, 0, tokens(*told))
            .copy_(torch::from_blob(const_cast<float*>(told->text.data()),
                                    {tokens(*told), sizes.activation_width}));
      }
      list.push_back(std::move(weighted));
    }
    return list;
  }

  const StateCodec codec_;
  const std::unique_ptr<const Dit> dit_;
  const torch::ScalarType products_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StateGenerator>> StateGenerator::Load(const tensors::TensorSet& set,
                                                                     bool bf16) {
  DS_ASSIGN_OR_RETURN(StateCodec codec, StateCodec::Load(set));
  DS_ASSIGN_OR_RETURN(std::unique_ptr<Dit> dit, Dit::Load(set, torch::kCPU));
  const DitSizes& sizes = dit->sizes();
  if (sizes.tokens() != codec.tokens() || sizes.token_size != codec.token_size() ||
      sizes.blocks != codec.blocks()) {
    return absl::InvalidArgumentError(
        StrCat("state DiT: expected ", codec.tokens(), " tokens of ", codec.token_size(),
               " numbers as the codec has, found ", sizes.tokens(), " of ", sizes.token_size));
  }
  const bool has = kernels::ActiveIsa() >= kernels::Isa::kAvx512Bf16;
  return std::make_unique<Generator>(std::move(codec), std::move(dit),
                                     bf16 && has ? torch::kBFloat16 : torch::kFloat);
}

}  // namespace dreamstate::diffusion
