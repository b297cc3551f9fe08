// MigrateState: a state is made again on the backbone that its model serves now, by reading the
// tokens that were kept of it and of the states it was made from. The reading is a document of a
// harvest: bulk work of the model's scheduler.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/places.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Tokens that may wait to be read again, or be read, at once: four bytes each. A state that has
// read more is not migrated.
inline constexpr int64_t kMostMigratingTokens = int64_t{8} << 20;

// Starts it, on the executor; what is named lives until `done` is called, once, anywhere. `room`
// has kMostMigratingTokens.
void MigrateState(const ServingContext& context, Metrics* metrics, Places* room,
                  const grpc::CallbackServerContext* call, const v1::MigrateStateRequest& request,
                  v1::State* response, std::function<void(absl::Status)> done);

}  // namespace dreamstate::server
