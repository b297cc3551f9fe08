// MigrateState: a state is made again on the backbone that its model serves now, by reading the
// tokens that were kept of it and of the states it was made from. The reading is a document of a
// harvest: bulk work of the model's scheduler.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/places.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Starts it, on the executor; what is named lives until `done` is called, once, anywhere. `room`
// has limits.max_migrating_tokens: those of migrations that wait or are read take four bytes each.
void MigrateState(const ServingContext& context, Metrics* metrics, Places* room,
                  const grpc::CallbackServerContext* call, const v1::MigrateStateRequest& request,
                  v1::State* response, std::function<void(absl::Status)> done);

}  // namespace dreamstate::server
