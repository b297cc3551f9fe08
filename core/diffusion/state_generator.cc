#include "core/diffusion/state_generator.h"

#include <algorithm>
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
      std::span<const StateCondition> conditions, const GenerateOptions& options) const override {
    if (conditions.empty()) return std::vector<state::State>();
    if (options.steps < 1 || options.steps > kMostSteps) {
      return FieldError("steps", StrCat("expected 1 to ", kMostSteps, ", found ", options.steps));
    }
    for (size_t i = 0; i < conditions.size(); ++i) DS_RETURN_IF_ERROR(Check(conditions[i], i));
    try {
      const torch::NoGradGuard no_gradients;
      const auto samples = static_cast<int64_t>(conditions.size());
      const bool mean = options.mode == GenerateMode::kMean;
      const int steps = mean ? 1 : options.steps;
      bool told_to_stop = false;
      SampleOptions sampling = {.steps = steps,
                                .solver = Solver::kHeun,
                                .guidance = options.guidance,
                                .products = products_};
      if (options.on_step) {
        sampling.on_step = [&](int step) {
          told_to_stop = !options.on_step(step, steps);
          return !told_to_stop;
        };
      }
      const Tensor code =
          Sample(*dit_, SampleNoise(dit_->sizes(), options.seed, options.first_sample, samples),
                 ConditionOf(conditions), sampling)
              .contiguous();
      if (told_to_stop) return absl::CancelledError("told to stop before the states were made");
      std::vector<state::State> states;
      for (int64_t i = 0; i < samples; ++i) {
        states.push_back(
            codec_.DecodeState({code.const_data_ptr<float>() + i * codec_.code_elements(),
                                static_cast<size_t>(codec_.code_elements())}));
      }
      return states;
    } catch (const c10::OutOfMemoryError& error) {
      return absl::ResourceExhaustedError(StrCat("generating: ", error.what_without_backtrace()));
    } catch (const c10::Error& error) {
      return absl::InternalError(StrCat("generating: ", error.what_without_backtrace()));
    }
  }

 private:
  absl::Status Check(const StateCondition& condition, size_t index) const {
    const auto wrong = [index](std::string_view field, std::string_view what) {
      return FieldError(StrCat("conditions[", index, "].", field), what);
    };
    if (condition.label < -1 || condition.label >= dit_->sizes().labels) {
      return wrong("label", StrCat("expected one of ", dit_->sizes().labels, " labels, found ",
                                   condition.label));
    }
    if (condition.text.size() % static_cast<size_t>(dit_->sizes().activation_width) != 0) {
      return wrong("text",
                   StrCat("expected activations of width ", dit_->sizes().activation_width));
    }
    return absl::OkStatus();
  }

  DitCondition ConditionOf(std::span<const StateCondition> conditions) const {
    const DitSizes& sizes = dit_->sizes();
    DitCondition condition =
        DitCondition::None(sizes, static_cast<int64_t>(conditions.size()), torch::kCPU);
    int64_t longest = 0;
    for (const StateCondition& one : conditions) {
      longest = std::max(longest, static_cast<int64_t>(one.text.size()) / sizes.activation_width);
    }
    if (longest > 0) {
      condition.text =
          torch::zeros({static_cast<int64_t>(conditions.size()), longest, sizes.activation_width});
    }
    for (size_t i = 0; i < conditions.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      if (conditions[i].label >= 0) condition.label[at] = int64_t{conditions[i].label};
      const int64_t tokens =
          static_cast<int64_t>(conditions[i].text.size()) / sizes.activation_width;
      if (tokens == 0) continue;
      condition.text_length[at] = tokens;
      condition.text[at]
          .narrow(0, 0, tokens)
          .copy_(torch::from_blob(const_cast<float*>(conditions[i].text.data()),
                                  {tokens, sizes.activation_width}));
    }
    return condition;
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
