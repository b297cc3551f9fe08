// GenerationService: GenerateStates and EditState. Never blocks a gRPC thread: calls run on workers
// of their own, of which there are few, because the state DiT's loop is one. Thread-safe.
#pragma once

#include <memory>

#include "dreamstate/v1/generation_service.grpc.pb.h"
#include "server/inference/generation_context.h"
#include "server/inference/request_memory.h"

namespace dreamstate::server {

class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  // Everything in `context` outlives this and its calls.
  explicit GenerationService(const GenerationContext& context)
      : context_(context), memory_(std::make_shared<RequestMemory>()) {}

  grpc::ServerWriteReactor<v1::GenerateStatesResponse>* GenerateStates(
      grpc::CallbackServerContext* context, const v1::GenerateStatesRequest* request) override;
  grpc::ServerUnaryReactor* EditState(grpc::CallbackServerContext* context,
                                      const v1::EditStateRequest* request,
                                      v1::EditStateResponse* response) override;

 private:
  const GenerationContext context_;
  const std::shared_ptr<RequestMemory> memory_;
};

}  // namespace dreamstate::server
