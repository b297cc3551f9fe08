#include "core/diffusion/state_generator.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <optional>
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
// Noises that a state's energy is the mean over.
constexpr uint64_t kEnergySeed = 0x656e6572;
constexpr int64_t kEnergyDraws = 4;

class Generator : public StateGenerator {
 public:
  Generator(StateCodec codec, std::unique_ptr<Dit> dit, std::optional<SafetyGate> gate,
            torch::ScalarType products)
      : codec_(std::move(codec)),
        dit_(std::move(dit)),
        gate_(std::move(gate)),
        products_(products) {}

  const StateCodec& codec() const override { return codec_; }
  const DitSizes& sizes() const override { return dit_->sizes(); }

  const SafetyGate* gate() const override { return gate_ ? &*gate_ : nullptr; }

  absl::StatusOr<std::vector<state::State>> Generate(
      std::span<const StateRequest> requests, const GenerateOptions& options) const override {
    if (requests.empty()) return std::vector<state::State>();
    DS_RETURN_IF_ERROR(CheckSteps(options));
    if (options.mode == GenerateMode::kTuned && !dit_->sizes().tuned) {
      return FieldError("mode", "expected SAMPLE or MEAN: this state DiT has not learned TUNED");
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      DS_RETURN_IF_ERROR(WithFieldPrefix(Check(requests[i]), StrCat("requests[", i, "]")));
      if (requests[i].noise != requests[0].noise) {
        return FieldError(StrCat("requests[", i, "].noise"), "expected that of the others");
      }
    }
    return CatchingTorch([&]() -> absl::StatusOr<std::vector<state::State>> {
      const bool tuned = options.mode == GenerateMode::kTuned;
      const int steps = options.mode == GenerateMode::kSample ? options.steps : 1;
      Told told(options, steps);
      std::vector<Tensor> noise;
      for (const StateRequest& request : requests) {
        noise.push_back(SampleNoise(dit_->sizes(), request.seed, request.sample, 1));
      }
      std::vector<const std::vector<StateCondition>*> conditions;
      for (const StateRequest& request : requests) conditions.push_back(&request.conditions);
      std::vector<WeightedCondition> told_conditions = Conditions(conditions);
      for (WeightedCondition& one : told_conditions) one.condition.tuned = tuned;
      const Tensor code = Sample(*dit_, torch::cat(noise), told_conditions,
                                 {.steps = steps,
                                  .solver = options.solver,
                                  .from_time = 1 - requests[0].noise,
                                  .code = Codes(requests),
                                  .known = Known(requests),
                                  .products = products_,
                                  .on_step = told.Callback()});
      DS_RETURN_IF_ERROR(told.status());
      std::vector<state::State> states = Decode(code);
      for (size_t i = 0; i < states.size(); ++i) KeepExactly(requests[i], &states[i]);
      return states;
    });
  }

  absl::StatusOr<state::State> Translate(const TranslateRequest& request,
                                         const GenerateOptions& options) const override {
    DS_RETURN_IF_ERROR(CheckSteps(options));
    DS_RETURN_IF_ERROR(WithFieldPrefix(CheckConditions(request.from), "from"));
    DS_RETURN_IF_ERROR(WithFieldPrefix(CheckConditions(request.to), "to"));
    if (!(request.noise > 0) || request.noise > 1) {
      return FieldError("noise", StrCat("expected above 0 to 1, found ", request.noise));
    }
    DS_RETURN_IF_ERROR(CheckState(*request.state, "state"));
    return CatchingTorch([&]() -> absl::StatusOr<state::State> {
      Told told(options, options.steps);
      const Tensor code = diffusion::Translate(
          *dit_, CodeOf({request.state}), SampleNoise(dit_->sizes(), request.seed, 0, 1),
          Conditions({&request.from}), Conditions({&request.to}),
          {.steps = options.steps,
           .from_time = 1 - request.noise,
           .products = products_,
           .on_step = told.Callback()});
      DS_RETURN_IF_ERROR(told.status());
      state::State state = std::move(Decode(code)[0]);
      state.shift = request.state->shift;
      return state;
    });
  }

  absl::StatusOr<std::vector<state::State>> AlongFlow(
      const state::State& first, const state::State& second, std::span<const double> fractions,
      const GenerateOptions& options) const override {
    DS_RETURN_IF_ERROR(CheckSteps(options));
    DS_RETURN_IF_ERROR(CheckState(first, "first"));
    DS_RETURN_IF_ERROR(CheckState(second, "second"));
    for (size_t i = 0; i < fractions.size(); ++i) {
      if (fractions[i] >= 0 && fractions[i] <= 1) continue;
      return FieldError(StrCat("fractions[", i, "]"),
                        StrCat("expected 0 to 1, found ", fractions[i]));
    }
    if (fractions.empty()) return std::vector<state::State>();
    return CatchingTorch([&]() -> absl::StatusOr<std::vector<state::State>> {
      Told told(options, 2 * options.steps);
      const Tensor code = diffusion::AlongFlow(
          *dit_, CodeOf({&first}), CodeOf({&second}), {fractions.begin(), fractions.end()},
          {.steps = options.steps, .products = products_, .on_step = told.Callback()});
      DS_RETURN_IF_ERROR(told.status());
      std::vector<state::State> states = Decode(code);
      for (size_t i = 0; i < states.size(); ++i) {
        const auto fraction = static_cast<float>(fractions[i]);
        for (size_t k = 0; k < first.shift.size(); ++k) {
          states[i].shift[k] = (1 - fraction) * first.shift[k] + fraction * second.shift[k];
        }
      }
      return states;
    });
  }

  absl::StatusOr<std::vector<double>> Energy(
      std::span<const state::State* const> states) const override {
    for (size_t i = 0; i < states.size(); ++i) {
      DS_RETURN_IF_ERROR(CheckState(*states[i], StrCat("states[", i, "]")));
    }
    return CatchingTorch([&]() -> absl::StatusOr<std::vector<double>> {
      const Tensor noise = SampleNoise(dit_->sizes(), kEnergySeed, 0, kEnergyDraws);
      std::vector<double> energy;
      // One after another: the answer does not depend on what else is asked.
      for (const state::State* const state : states) {
        energy.push_back(
            diffusion::Energy(*dit_, CodeOf({state}), noise, products_).item<double>());
      }
      return energy;
    });
  }

 private:
  // Tells of steps, and remembers that it was told to stop.
  class Told {
   public:
    Told(const GenerateOptions& options, int steps) : options_(options), steps_(steps) {}
    std::function<bool(int)> Callback() {
      if (!options_.on_step) return nullptr;
      return [this](int step) {
        stop_ = !options_.on_step(step, steps_);
        return !stop_;
      };
    }
    absl::Status status() const {
      if (!stop_) return absl::OkStatus();
      return absl::CancelledError("told to stop before the states were made");
    }

   private:
    const GenerateOptions& options_;
    const int steps_;
    bool stop_ = false;
  };

  template <typename Work>
  static auto CatchingTorch(const Work& work) -> decltype(work()) {
    try {
      const torch::NoGradGuard no_gradients;
      return work();
    } catch (const c10::OutOfMemoryError& error) {
      return absl::ResourceExhaustedError(StrCat("state DiT: ", error.what_without_backtrace()));
    } catch (const c10::Error& error) {
      return absl::InternalError(StrCat("state DiT: ", error.what_without_backtrace()));
    }
  }

  static absl::Status CheckSteps(const GenerateOptions& options) {
    if (options.steps >= 1 && options.steps <= kMostSteps) return absl::OkStatus();
    return FieldError("steps", StrCat("expected 1 to ", kMostSteps, ", found ", options.steps));
  }

  absl::Status CheckState(const state::State& state, std::string_view field) const {
    if (state.shape != codec_.shape()) {
      return FieldError(field, "expected a state of the backbone's shape");
    }
    return WithFieldPrefix(state.Validate(), field);
  }

  // [states][G][K]
  Tensor CodeOf(std::initializer_list<const state::State*> states) const {
    const auto count = static_cast<int64_t>(states.size());
    Tensor codes = torch::empty({count, codec_.tokens(), codec_.token_size()});
    const auto elements = static_cast<size_t>(codec_.code_elements());
    float* out = codes.mutable_data_ptr<float>();
    for (const state::State* const state : states) {
      codec_.Encode(state->wkv, {out, elements});
      out += elements;
    }
    return codes;
  }

  std::vector<state::State> Decode(const Tensor& code) const {
    const Tensor packed = code.contiguous();
    const auto elements = static_cast<size_t>(codec_.code_elements());
    std::vector<state::State> states;
    for (int64_t i = 0; i < packed.size(0); ++i) {
      states.push_back(codec_.DecodeState(
          {packed.const_data_ptr<float>() + i * codec_.code_elements(), elements}));
    }
    return states;
  }

  absl::Status CheckConditions(const std::vector<StateCondition>& conditions) const {
    for (size_t i = 0; i < conditions.size(); ++i) {
      const StateCondition& condition = conditions[i];
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
    return absl::OkStatus();
  }

  absl::Status Check(const StateRequest& request) const {
    DS_RETURN_IF_ERROR(CheckConditions(request.conditions));
    const bool from_noise = request.noise == 1;
    if (!(request.noise > 0) || request.noise > 1) {
      return FieldError("noise", StrCat("expected above 0 to 1, found ", request.noise));
    }
    if (request.from == nullptr) {
      if (from_noise && request.keep.empty()) return absl::OkStatus();
      return FieldError("from", "expected a state to keep something of, found none");
    }
    DS_RETURN_IF_ERROR(CheckState(*request.from, "from"));
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
  std::vector<WeightedCondition> Conditions(
      const std::vector<const std::vector<StateCondition>*>& of_samples) const {
    const DitSizes& sizes = dit_->sizes();
    const auto samples = static_cast<int64_t>(of_samples.size());
    size_t most = 0;
    for (const auto* conditions : of_samples) most = std::max(most, conditions->size());
    std::vector<WeightedCondition> list;
    for (size_t n = 0; n < most; ++n) {
      WeightedCondition weighted = {DitCondition::None(sizes, samples, torch::kCPU),
                                    torch::zeros({samples})};
      DitCondition& condition = weighted.condition;
      int64_t longest = 0;
      const auto one = [&](int64_t i) -> const StateCondition* {
        const std::vector<StateCondition>& of_sample = *of_samples[static_cast<size_t>(i)];
        return n < of_sample.size() ? &of_sample[n] : nullptr;
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
  const std::optional<SafetyGate> gate_;
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
  std::optional<SafetyGate> gate;
  if (set.Find("safety.norm") != nullptr) {
    DS_ASSIGN_OR_RETURN(gate, SafetyGate::Load(set, codec.shape()));
  }
  const bool has = kernels::ActiveIsa() >= kernels::Isa::kAvx512Bf16;
  return std::make_unique<Generator>(std::move(codec), std::move(dit), std::move(gate),
                                     bf16 && has ? torch::kBFloat16 : torch::kFloat);
}

}  // namespace dreamstate::diffusion
