// DecodeService: Decode and Score. Checks a request, finds its source, and gives it to the model's
// scheduler as a job. Never blocks a gRPC thread on compute or on the store. Thread-safe.
#pragma once

#include "core/base/clock.h"
#include "core/state/store.h"
#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "server/inference/executor.h"
#include "server/inference/model_session.h"
#include "server/inference/request_limits.h"

namespace dreamstate::server {

// What request handlers share. Everything outlives them and every job that they started.
struct ServingContext {
  const ModelDirectory* models = nullptr;
  state::StateStore* store = nullptr;
  Executor* executor = nullptr;  // for the store
  const Clock* clock = &Clock::Real();
  RequestLimits limits;
};

class DecodeService final : public v1::DecodeService::CallbackService {
 public:
  explicit DecodeService(const ServingContext& context) : context_(context) {}

  grpc::ServerWriteReactor<v1::DecodeResponse>* Decode(grpc::CallbackServerContext* context,
                                                       const v1::DecodeRequest* request) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;

 private:
  ServingContext context_;
};

}  // namespace dreamstate::server
