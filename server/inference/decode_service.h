// DecodeService: Decode and Score. Checks a request, finds its source, and gives it to the model's
// scheduler as a job. Never blocks a gRPC thread on compute or on the store. Thread-safe.
#pragma once

#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

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
