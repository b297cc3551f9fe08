// DeleteStates: everything that fits a filter, page by page, so that no thread of the executor is
// held for long and the caller's leaving is noticed.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/server_context.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Starts it; what is named lives until `done` is called, once, here or on the executor. States that
// others change or delete meanwhile are passed over. When it fails half way, `response` is of no
// use, and states that were deleted stay so.
void DeleteStates(const ServingContext& context, Metrics* metrics,
                  const grpc::CallbackServerContext* call, const v1::DeleteStatesRequest& request,
                  v1::DeleteStatesResponse* response, std::function<void(absl::Status)> done);

}  // namespace dreamstate::server
