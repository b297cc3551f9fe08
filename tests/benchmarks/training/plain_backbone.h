// What the trainer is measured against: the same step as a torch module is usually written, one
// operation after the other under bf16 autocast, with torch's own loss and optimiser. It gets the
// trainer's WKV-7 operator, threads and malloc.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/training/backbone.h"
#include "core/training/batch.h"

namespace dreamstate::training {

class PlainBackbone {
 public:
  // Begins from the values of `other`.
  PlainBackbone(const Backbone& other, bool bf16, kernels::ThreadPool& pool);

  // One optimiser step; the mean loss.
  double Step(const Batch& batch, double lr);

 private:
  torch::Tensor Logits(const torch::Tensor& tokens) const;
  const torch::Tensor& Get(int layer, const char* name) const;

  BackboneSizes sizes_;
  bool bf16_;
  kernels::ThreadPool& pool_;
  std::map<std::string, torch::Tensor> parameters_;
  std::unique_ptr<torch::optim::AdamW> optimiser_;
};

}  // namespace dreamstate::training
