// What other work needs of a model's engine, as calls that wait for their answer: each is a job of
// the model's scheduler. Not for gRPC's threads or the scheduler's loop.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/record.h"
#include "server/inference/caller_watch.h"
#include "server/inference/model_session.h"

namespace dreamstate::server {

// The residual stream behind `layers` after each token of a text that is read from the empty state
// behind the separator (core/diffusion/text_activations.h): [tokens][layers * D].
absl::StatusOr<std::vector<float>> ReadActivations(std::shared_ptr<const ModelSession> session,
                                                   std::span<const int32_t> text,
                                                   std::span<const int> layers,
                                                   const CallTimes& times);

// The loss of a text in nats after each of several states, as Score gives it. At least one token.
absl::StatusOr<std::vector<double>> ScoreStates(
    std::shared_ptr<const ModelSession> session,
    std::span<const std::shared_ptr<const state::Record>> states, std::span<const int32_t> text,
    const CallTimes& times);

}  // namespace dreamstate::server
