// GenerationService's EditState: applies an operation to a stored state, masks and projects it,
// judges it, and stores or sends the result.
#pragma once

#include "dreamstate/v1/generation_service.pb.h"
#include "server/inference/caller_watch.h"
#include "server/inference/diffusion_loop.h"
#include "server/inference/generation_context.h"

namespace dreamstate::server {

// The whole call; waits for the store, the engine and the loop.
absl::Status EditState(const GenerationContext& context, const v1::EditStateRequest& request,
                       const CallTimes& times, const DiffusionLoop::Wanted& wanted,
                       v1::EditStateResponse* response);

}  // namespace dreamstate::server
