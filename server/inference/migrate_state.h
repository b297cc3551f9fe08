// MigrateState: a state is made again on the backbone that its model serves now, by reading the
// tokens that were kept of it and of the states it was made from. The reading is a document of a
// harvest: bulk work of the model's scheduler.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Starts it, on the executor; what is named lives until `done` is called, once, anywhere.
void MigrateState(const ServingContext& context, Metrics* metrics,
                  const grpc::CallbackServerContext* call, const v1::MigrateStateRequest& request,
                  v1::State* response, std::function<void(absl::Status)> done);

}  // namespace dreamstate::server
