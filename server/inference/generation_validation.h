// From the messages of GenerationService to what core/diffusion takes. INVALID_ARGUMENT with the
// path of the field at fault.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/state_generator.h"
#include "core/state/algebra.h"
#include "dreamstate/v1/generation_service.pb.h"
#include "server/inference/caller_watch.h"
#include "server/inference/request_limits.h"
#include "server/inference/state_dit.h"

namespace dreamstate::server {

// The session's state DiT. FAILED_PRECONDITION when it has none, or, with `digest` (a request's
// field "state_dit_digest"), another one than that.
absl::StatusOr<std::shared_ptr<const StateDit>> RequireStateDit(const ModelSession& session,
                                                                const std::string& digest);

struct GenerationPlan {
  diffusion::GenerateOptions options;
  uint64_t seed = 0;  // the caller's or a drawn one
};
absl::StatusOr<GenerationPlan> ReadOptions(const std::string& field,
                                           const v1::GenerationOptions& message);

// Reads texts on the session's engine: waits.
using ConditionMessages = google::protobuf::RepeatedPtrField<v1::StateCondition>;
absl::StatusOr<std::vector<diffusion::StateCondition>> ReadConditions(
    const std::string& field, const ConditionMessages& messages,
    const std::shared_ptr<const ModelSession>& session, const RequestLimits& limits,
    const CallTimes& times);

absl::StatusOr<state::HeadMask> ReadMask(const std::string& field, const v1::HeadMask& message,
                                         const state::Shape& shape);

// A share of noise above 0 and, with `whole`, up to 1, else below.
absl::StatusOr<double> ReadNoise(const std::string& field, float value, bool whole);

}  // namespace dreamstate::server
