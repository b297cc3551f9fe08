// Rectified flow with x-prediction (spec section 3.5; design: science.md): z = t x + (1 - t) e runs
// from noise (t = 0) to the code (t = 1); the network predicts x, losses and steps use the velocity
// v = (x - z) / (1 - t). Internal to core/diffusion and core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "core/diffusion/dit.h"
#include "core/diffusion/solver.h"

namespace dreamstate::diffusion {

// Divisions by 1 - t stop here.
inline constexpr double kLeastNoise = 0.05;

// Times [B] for training, from the device's default generator.
torch::Tensor DrawTimes(const FlowOptions& options, int64_t samples, torch::Device device);

// The velocity loss of each sample [B] at these times and with this noise.
torch::Tensor FlowLoss(const Dit& dit, const torch::Tensor& code, const torch::Tensor& noise,
                       const torch::Tensor& t, const DitCondition& condition,
                       torch::ScalarType products);

// Standard normal noise [samples][G][K] of the samples `first`, `first` + 1, ... of a seed: a
// sample's noise does not depend on which others are made.
torch::Tensor SampleNoise(const DitSizes& sizes, uint64_t seed, int64_t first, int64_t samples);

// A condition and how much it counts: x = x(none) + sum of weight (x(condition) - x(none)). One of
// weight 1 is the condition's own prediction, more leans towards it, less than 0 away from it.
struct WeightedCondition {
  DitCondition condition;
  torch::Tensor weight;  // [B]
};

struct SampleOptions {
  int steps = 10;
  Solver solver = Solver::kHeun;
  // Sampling begins at this time, from `code` noised to it; 0 = from noise alone (spec section 4,
  // SDEdit: 1 - from_time is the share of noise).
  double from_time = 0;
  torch::Tensor code;  // [B][G][K]; for from_time above 0, and for `known`
  // Tokens that stay what they are in `code`, [B][G] bool (spec section 4, inpainting); undefined =
  // none. They are put in their places at every step; a model that was not trained so fits the rest
  // to them only in part (a mixture whose halves name each other: 60 %, and noising back and
  // repeating steps as RePaint does changes little).
  torch::Tensor known;
  // Weights other than 0 and 1 count where from <= t <= to; elsewhere all of a sample's conditions
  // count as 1 over their number.
  double guidance_from = 0.0, guidance_to = 1.0;
  torch::ScalarType products = torch::kFloat;
  // Told after each step; false ends sampling early, with what there is.
  std::function<bool(int step)> on_step;
};

// Codes [B][G][K] from `noise`, by the flow to t = 1. One step from noise gives E[x | condition].
// No conditions = x(none).
torch::Tensor Sample(const Dit& dit, const torch::Tensor& noise,
                     const std::vector<WeightedCondition>& conditions,
                     const SampleOptions& options);

// What an edit of codes is told.
struct EditOptions {
  int steps = 10;
  // The change begins at this time, in [0, 1).
  double from_time = 0;
  torch::ScalarType products = torch::kFloat;
  std::function<bool(int step)> on_step;
};

// FlowEdit (arXiv 2412.08629): `code` follows the difference of the velocities under `to` and under
// `from`, both at the source noised with the same `noise`. Euler steps.
torch::Tensor Translate(const Dit& dit, const torch::Tensor& code, const torch::Tensor& noise,
                        const std::vector<WeightedCondition>& from,
                        const std::vector<WeightedCondition>& to, const EditOptions& options);

// Codes [F][G][K] at `fractions` of the way from `first` to `second` [1][G][K]: both are taken back
// to noise along the unconditional flow, joined there on the sphere token by token, and sampled
// again (spec section 4, path). Fractions 0 and 1 give the round trip of an end, not the end.
torch::Tensor AlongFlow(const Dit& dit, const torch::Tensor& first, const torch::Tensor& second,
                        const std::vector<double>& fractions, const EditOptions& options);

// How far the unconditional prediction lies from each code [B] when it is noised to t = 0.7 (mean
// square of a number; mean over `noise`, [draws][G][K]; spec section 4, denoiser energy).
torch::Tensor Energy(const Dit& dit, const torch::Tensor& code, const torch::Tensor& noise,
                     torch::ScalarType products);

}  // namespace dreamstate::diffusion
