// Rectified flow with x-prediction (spec section 3.5; design: science.md): z = t x + (1 - t) e runs
// from noise (t = 0) to the code (t = 1); the network predicts x, losses and steps use the velocity
// v = (x - z) / (1 - t). Internal to core/diffusion and core/training: shows torch types.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>

#include "core/diffusion/dit.h"

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

enum class Solver { kEuler, kHeun };

struct SampleOptions {
  int steps = 10;
  Solver solver = Solver::kHeun;
  // x = x(none) + guidance (x(condition) - x(none)) where from <= t <= to; 1 = the condition's.
  double guidance = 1.0;
  double guidance_from = 0.0, guidance_to = 1.0;
  torch::ScalarType products = torch::kFloat;
  // Told after each step; false ends sampling early, with what there is.
  std::function<bool(int step)> on_step;
};

// Codes [B][G][K] from `noise`, by the flow from t = 0 to 1. One Euler step gives E[x | condition].
torch::Tensor Sample(const Dit& dit, const torch::Tensor& noise, const DitCondition& condition,
                     const SampleOptions& options);

}  // namespace dreamstate::diffusion
