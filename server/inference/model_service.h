// ModelService: reads what the model host knows, from memory, at once; and tells it to reload, pin
// and unpin, which may be switched off.
#pragma once

#include "dreamstate/v1/model_service.grpc.pb.h"
#include "server/inference/executor.h"
#include "server/inference/model_host.h"

namespace dreamstate::server {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `host` and `executor`, which does what touches files, outlive this. Without `admin_calls`
  // ReloadModel, PinModelVersion and UnpinModel answer PERMISSION_DENIED.
  ModelService(ModelHost* host, Executor* executor, bool admin_calls)
      : host_(host), executor_(executor), admin_calls_(admin_calls) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* ListModelVersions(grpc::CallbackServerContext* context,
                                              const v1::ListModelVersionsRequest* request,
                                              v1::ListModelVersionsResponse* response) override;
  grpc::ServerUnaryReactor* ReloadModel(grpc::CallbackServerContext* context,
                                        const v1::ReloadModelRequest* request,
                                        v1::ReloadModelResponse* response) override;
  grpc::ServerUnaryReactor* PinModelVersion(grpc::CallbackServerContext* context,
                                            const v1::PinModelVersionRequest* request,
                                            v1::Model* response) override;
  grpc::ServerUnaryReactor* UnpinModel(grpc::CallbackServerContext* context,
                                       const v1::UnpinModelRequest* request,
                                       v1::Model* response) override;

 private:
  ModelHost* const host_;
  Executor* const executor_;
  const bool admin_calls_;
};

}  // namespace dreamstate::server
