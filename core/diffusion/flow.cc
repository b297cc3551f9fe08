#include "core/diffusion/flow.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/base/draws.h"

namespace dreamstate::diffusion {
namespace {

using torch::Tensor;

constexpr uint32_t kNoiseStream = 0x4e4f4953;  // "NOIS"; the substream is the sample

constexpr double kEnergyTime = 0.7;

Tensor ForEach(const Tensor& of_sample) { return of_sample.view({-1, 1, 1}); }

// What the network says under a list of conditions.
class Predictor {
 public:
  // `dit` outlives this.
  Predictor(const Dit& dit, std::vector<WeightedCondition> conditions, int64_t samples,
            double guidance_from, double guidance_to, torch::ScalarType products)
      : dit_(dit),
        conditions_(std::move(conditions)),
        none_(DitCondition::None(dit.sizes(), samples, dit.device())),
        plain_(conditions_.size() == 1 && conditions_[0].weight.eq(1).all().item<bool>()),
        guidance_from_(guidance_from),
        guidance_to_(guidance_to),
        products_(products) {}

  // The clean code, from z at `time`.
  Tensor Code(const Tensor& z, double time) const {
    const Tensor t = torch::full({z.size(0)}, time, z.options());
    const auto forward = [&](const DitCondition& condition) {
      return dit_.Forward(z, t, condition, products_);
    };
    if (conditions_.empty()) return forward(none_);
    // With one of weight 1, one pass says it.
    if (plain_) return forward(conditions_[0].condition);
    const bool guided = time >= guidance_from_ && time <= guidance_to_;
    const Tensor without = forward(none_);
    Tensor x = without.clone();
    for (const WeightedCondition& one : conditions_) {
      const Tensor weight =
          guided ? one.weight
                 : one.weight.gt(0).to(z.scalar_type()) / static_cast<double>(conditions_.size());
      x += ForEach(weight) * (forward(one.condition) - without);
    }
    return x;
  }

  Tensor Velocity(const Tensor& z, double time) const {
    return (Code(z, time) - z) / std::max(1 - time, kLeastNoise);
  }

 private:
  const Dit& dit_;
  const std::vector<WeightedCondition> conditions_;
  const DitCondition none_;
  const bool plain_;
  const double guidance_from_, guidance_to_;
  const torch::ScalarType products_;
};

// Between two noises [G][K], token by token along the great circle. Codes that the network does not
// know well come from noise that is larger than noise is, and what lies between two of that would
// be nothing that it knows: midway the norm is that of noise, at the ends their own.
Tensor OnSphere(const Tensor& a, const Tensor& b, double fraction) {
  const Tensor norm_a = a.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
  const Tensor norm_b = b.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
  const Tensor cosine = ((a / norm_a) * (b / norm_b)).sum(1, /*keepdim=*/true).clamp(-1, 1);
  const Tensor angle = torch::acos(cosine);
  const Tensor sine = torch::sin(angle);
  const Tensor parallel = sine.lt(1e-4);
  const Tensor weight_a = torch::where(parallel, torch::full_like(sine, 1 - fraction),
                                       torch::sin((1 - fraction) * angle) / sine);
  const Tensor weight_b =
      torch::where(parallel, torch::full_like(sine, fraction), torch::sin(fraction * angle) / sine);
  const double midway = 4 * fraction * (1 - fraction);
  const Tensor norm = (1 - midway) * ((1 - fraction) * norm_a + fraction * norm_b) +
                      midway * std::sqrt(static_cast<double>(a.size(1)));
  return norm * (weight_a * a / norm_a + weight_b * b / norm_b);
}

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
  const Predictor predict(dit, conditions, noise.size(0), options.guidance_from,
                          options.guidance_to, options.products);
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
    if (step + 1 == options.steps) {
      z = predict.Code(z, now);  // a step to t = 1 along v ends at x
    } else {
      const Tensor v = predict.Velocity(z, now);
      const Tensor ahead = keep_known(z + (next - now) * v, next);
      z = options.solver == Solver::kEuler
              ? ahead
              : z + (next - now) / 2 * (v + predict.Velocity(ahead, next));
    }
    z = keep_known(z, next);
    if (options.on_step && !options.on_step(step + 1)) break;
  }
  return z;
}

Tensor Translate(const Dit& dit, const Tensor& code, const Tensor& noise,
                 const std::vector<WeightedCondition>& from,
                 const std::vector<WeightedCondition>& to, const EditOptions& options) {
  const torch::NoGradGuard no_gradients;
  const Predictor source(dit, from, code.size(0), 0, 1, options.products);
  const Predictor target(dit, to, code.size(0), 0, 1, options.products);
  const double span = 1 - options.from_time;
  Tensor edited = code;
  for (int step = 0; step < options.steps; ++step) {
    const double now = options.from_time + span * step / options.steps;
    const Tensor z_source = now * code + (1 - now) * noise;
    const Tensor z_target = edited + z_source - code;
    edited = edited + span / options.steps *
                          (target.Velocity(z_target, now) - source.Velocity(z_source, now));
    if (options.on_step && !options.on_step(step + 1)) break;
  }
  return edited;
}

Tensor AlongFlow(const Dit& dit, const Tensor& first, const Tensor& second,
                 const std::vector<double>& fractions, const EditOptions& options) {
  const torch::NoGradGuard no_gradients;
  const Predictor both(dit, {}, 2, 0, 1, options.products);
  Tensor z = torch::cat({first, second});
  const int steps = options.steps;
  // Heun's method backwards in time. At t = 1 there is no velocity: the first step takes that of a
  // little before.
  const double latest = 1 - 0.5 / steps;
  for (int step = steps; step > 0; --step) {
    const double now = static_cast<double>(step) / steps;
    const double next = static_cast<double>(step - 1) / steps;
    const Tensor v = both.Velocity(z, std::min(now, latest));
    z = z + (next - now) / 2 * (v + both.Velocity(z + (next - now) * v, next));
    if (options.on_step && !options.on_step(steps - step + 1)) return first;
  }
  std::vector<Tensor> noises;
  for (const double fraction : fractions) noises.push_back(OnSphere(z[0], z[1], fraction));
  SampleOptions sampling = {.steps = steps, .solver = Solver::kHeun, .products = options.products};
  if (options.on_step) {
    sampling.on_step = [&](int step) { return options.on_step(steps + step); };
  }
  return Sample(dit, torch::stack(noises), {}, sampling);
}

Tensor Energy(const Dit& dit, const Tensor& code, const Tensor& noise, torch::ScalarType products) {
  const torch::NoGradGuard no_gradients;
  const Predictor predict(dit, {}, code.size(0), 0, 1, products);
  Tensor energy = torch::zeros({code.size(0)}, code.options());
  for (int64_t draw = 0; draw < noise.size(0); ++draw) {
    const Tensor z = kEnergyTime * code + (1 - kEnergyTime) * noise[draw].unsqueeze(0);
    energy += (predict.Code(z, kEnergyTime) - code).square().mean({1, 2});
  }
  return energy / static_cast<double>(noise.size(0));
}

}  // namespace dreamstate::diffusion
