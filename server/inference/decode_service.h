// DecodeService: Decode, DecodeBatch and Score. Checks a request, finds its source, and gives it to
// the model's scheduler as a job. Never blocks a gRPC thread on compute or on the store.
// Thread-safe.
#pragma once

#include <memory>

#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "server/inference/decode_call.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// As v1::DecodeService::CallbackService, but DecodeBatch reads its messages itself.
using DecodeServiceBase =
    v1::DecodeService::WithCallbackMethod_Decode<v1::DecodeService::WithCallbackMethod_Score<
        v1::DecodeService::WithRawCallbackMethod_DecodeBatch<v1::DecodeService::Service>>>;

class DecodeService final : public DecodeServiceBase {
 public:
  explicit DecodeService(const ServingContext& context)
      : context_{context, std::make_shared<RequestMemory>()} {}

  grpc::ServerWriteReactor<v1::DecodeResponse>* Decode(grpc::CallbackServerContext* context,
                                                       const v1::DecodeRequest* request) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* DecodeBatch(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;

 private:
  const DecodeContext context_;
};

}  // namespace dreamstate::server
