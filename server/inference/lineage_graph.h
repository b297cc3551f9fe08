// GetLineage: the states that a state came from, and those that were made from it.
#pragma once

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Blocks on the store, for at most a few thousand small reads, between which it looks whether
// `call` still waits. Terminates whatever the records say of their parents.
absl::Status GetLineage(const ServingContext& context, Metrics& metrics,
                        const grpc::CallbackServerContext& call,
                        const v1::GetLineageRequest& request, v1::GetLineageResponse* response);

}  // namespace dreamstate::server
