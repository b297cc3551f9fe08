// The state DiT of a served version, and how it is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/state_generator.h"
#include "core/repository/repository.h"
#include "core/rwkv/config.h"
#include "core/state/record.h"
#include "core/tensors/tensor_set.h"
#include "server/inference/model_session.h"

namespace dreamstate::server {

// Immutable. Versions whose state DiT is the same share one.
struct StateDit {
  std::string digest;
  std::vector<std::string> labels;  // by index
  std::vector<int> taps;            // layers of the backbone that its texts are read behind
  int64_t parameters = 0;
  std::unique_ptr<const diffusion::StateGenerator> generator;

  // INVALID_ARGUMENT (no field) naming the known labels.
  absl::StatusOr<int> FindLabel(std::string_view label) const;
};

// From a bundle's component "state_dit", for a backbone of this configuration. Makes one mean state
// as a test. FAILED_PRECONDITION or INVALID_ARGUMENT saying what does not fit.
absl::StatusOr<std::shared_ptr<const StateDit>> LoadStateDit(const repository::Component& component,
                                                             const tensors::TensorSet& tensors,
                                                             const rwkv::Config& config);

// That of a served version of the record's backbone, whose states have the record's shape. Null
// when there is none.
std::shared_ptr<const StateDit> FindStateDit(const ModelDirectory& models,
                                             const state::Record& record);

}  // namespace dreamstate::server
