// DescribeState and CompareStates: the numbers of core/state/geometry.h over stored states.
#pragma once

#include "absl/status/status.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Both block on the store and compute, up to about a second for the largest models.
// With what the state DiT of a served version of the state's backbone says, if there is one.
absl::Status DescribeState(const ServingContext& context, Metrics& metrics,
                           const grpc::CallbackServerContext& call,
                           const v1::DescribeStateRequest& request,
                           v1::DescribeStateResponse* response);
absl::Status CompareStates(state::StateStore& store, Metrics& metrics,
                           const v1::CompareStatesRequest& request,
                           v1::CompareStatesResponse* response);

}  // namespace dreamstate::server
