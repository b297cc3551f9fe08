#include "core/diffusion/flow.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/draws.h"

namespace dreamstate::diffusion {
namespace {

using torch::Tensor;

constexpr uint32_t kNoiseStream = 0x4e4f4953;  // "NOIS"; the substream is the sample

Tensor ForEach(const Tensor& of_sample) { return of_sample.view({-1, 1, 1}); }

}  // namespace

Tensor DrawTimes(const FlowOptions& options, int64_t samples, torch::Device device) {
  const Tensor normal = torch::randn({samples}, torch::TensorOptions().device(device));
  const Tensor t = torch::sigmoid(normal * options.time_deviation + options.time_mean);
  return torch::where(torch::rand_like(t) < options.noise_share, torch::zeros_like(t), t);
}

Tensor FlowLoss(const Dit& dit, const Tensor& code, const Tensor& noise, const Tensor& t,
                const DitCondition& condition, torch::ScalarType products) {
  const Tensor z = ForEach(t) * code + ForEach(1 - t) * noise;
  const Tensor predicted = dit.Forward(z, t, condition, products);
  // Both velocities are over the same 1 - t.
  return (predicted - code).square().mean({1, 2}) / (1 - t).clamp_min(kLeastNoise).square();
}

Tensor SampleNoise(const DitSizes& sizes, uint64_t seed, int64_t first, int64_t samples) {
  const int64_t elements = int64_t{sizes.tokens()} * sizes.token_size;
  Tensor noise = torch::empty({samples, sizes.tokens(), sizes.token_size});
  for (int64_t sample = 0; sample < samples; ++sample) {
    Draws draws(seed, kNoiseStream, static_cast<uint32_t>(first + sample));
    float* out = noise.mutable_data_ptr<float>() + sample * elements;
    for (int64_t i = 0; i < elements; i += 2) {
      // Box and Muller; 1 - u is in (0, 1].
      const double radius = std::sqrt(-2 * std::log(1 - draws.Uniform()));
      const double angle = 2 * std::numbers::pi * draws.Uniform();
      out[i] = static_cast<float>(radius * std::cos(angle));
      if (i + 1 < elements) out[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }
  return noise;
}

Tensor Sample(const Dit& dit, const Tensor& noise, const std::vector<WeightedCondition>& conditions,
              const SampleOptions& options) {
  const torch::NoGradGuard no_gradients;
  const int64_t samples = noise.size(0);
  const DitCondition none = DitCondition::None(dit.sizes(), samples, noise.device());
  // Without a condition, or with one of weight 1, one pass says it.
  const bool plain = conditions.size() == 1 && conditions[0].weight.eq(1).all().item<bool>();
  const auto predict = [&](const Tensor& z, double time) {
    const Tensor t = torch::full({samples}, time, noise.options());
    const auto forward = [&](const DitCondition& condition) {
      return dit.Forward(z, t, condition, options.products);
    };
    if (conditions.empty()) return forward(none);
    if (plain) return forward(conditions[0].condition);
    const bool guided = time >= options.guidance_from && time <= options.guidance_to;
    const Tensor without = forward(none);
    Tensor x = without.clone();
    for (const WeightedCondition& one : conditions) {
      const Tensor weight = guided ? one.weight
                                   : one.weight.gt(0).to(noise.scalar_type()) /
                                         static_cast<double>(conditions.size());
      x += ForEach(weight) * (forward(one.condition) - without);
    }
    return x;
  };
  // What is known is noised like everything else on the way, and exact at the end.
  const auto keep_known = [&](const Tensor& z, double time) {
    if (!options.known.defined()) return z;
    return torch::where(options.known.unsqueeze(2), time * options.code + (1 - time) * noise, z);
  };
  const double span = 1 - options.from_time;
  Tensor z = options.from_time > 0 ? options.from_time * options.code + span * noise
                                   : keep_known(noise, 0);
  for (int step = 0; step < options.steps; ++step) {
    const double now = options.from_time + span * step / options.steps;
    const double next = options.from_time + span * (step + 1) / options.steps;
    const auto velocity = [&](const Tensor& at, double time) {
      return (predict(at, time) - at) / std::max(1 - time, kLeastNoise);
    };
    if (step + 1 == options.steps) {
      z = predict(z, now);  // a step to t = 1 along v ends at x
    } else {
      const Tensor v = velocity(z, now);
      const Tensor ahead = keep_known(z + (next - now) * v, next);
      z = options.solver == Solver::kEuler ? ahead
                                           : z + (next - now) / 2 * (v + velocity(ahead, next));
    }
    z = keep_known(z, next);
    if (options.on_step && !options.on_step(step + 1)) break;
  }
  return z;
}

}  // namespace dreamstate::diffusion
