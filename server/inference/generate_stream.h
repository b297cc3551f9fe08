// The stream of a GenerateStates call: its work runs on a worker from beginning to end, its
// messages wait for the reader and hold up nothing.
#pragma once

#include <memory>

#include "dreamstate/v1/generation_service.grpc.pb.h"
#include "server/inference/generation_context.h"
#include "server/inference/request_memory.h"

namespace dreamstate::server {

grpc::ServerWriteReactor<v1::GenerateStatesResponse>* StartGenerateStates(
    const GenerationContext& context, std::shared_ptr<RequestMemory> memory,
    grpc::CallbackServerContext* call, const v1::GenerateStatesRequest& request);

}  // namespace dreamstate::server
