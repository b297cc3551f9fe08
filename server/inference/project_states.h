// ProjectStates: the maps of core/state/projection.h over stored states.
#pragma once

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Blocks on the store and computes: a minute for 2000 states of a small model. Holds 256 MiB of
// states and 100 MiB of what is known of them at most; large states are read several times. Ends
// when nobody waits for the answer any more.
absl::Status ProjectStates(const ServingContext& context, Metrics& metrics,
                           const grpc::CallbackServerContext& call,
                           const v1::ProjectStatesRequest& request,
                           v1::ProjectStatesResponse* response);

}  // namespace dreamstate::server
