// ModelService: reads what the model host knows. Answers from memory, at once.
#pragma once

#include "dreamstate/v1/model_service.grpc.pb.h"
#include "server/inference/model_host.h"

namespace dreamstate::server {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `host` outlives this.
  explicit ModelService(const ModelHost* host) : host_(host) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* ListModelVersions(grpc::CallbackServerContext* context,
                                              const v1::ListModelVersionsRequest* request,
                                              v1::ListModelVersionsResponse* response) override;

 private:
  const ModelHost* const host_;
};

}  // namespace dreamstate::server
