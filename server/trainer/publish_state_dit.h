// A state DiT becomes a component of the newest version that has its backbone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/tensors/tensor_set.h"
#include "nlohmann/json.hpp"

namespace dreamstate::trainer {

// The newest version of the model with a backbone of this fingerprint. FAILED_PRECONDITION when
// there is none.
absl::StatusOr<repository::Manifest> FindBackbone(const std::string& repository,
                                                  const std::string& model,
                                                  const std::string& fingerprint);

struct StateDitPublication {
  std::string repository;
  std::string model;
  std::string backbone;             // its fingerprint
  std::vector<std::string> labels;  // that it knows, by index; "" = not trained
  std::vector<int> taps;            // layers that its texts are read from
  nlohmann::json metrics = nlohmann::json::object();
  int64_t step = 0;
  bool allow_losing_components = false;
};

// The version that was published: the backbone and everything else of FindBackbone's version, with
// `set` (core/training/state_dit_learner.h, Export) as its state_dit.
absl::StatusOr<int64_t> PublishStateDit(const tensors::TensorSet& set,
                                        const StateDitPublication& publication);

}  // namespace dreamstate::trainer
