// StateService: harvest (server/inference/harvest.h) and the unary methods over the state store.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "dreamstate/v1/state_service.grpc.pb.h"
#include "server/inference/harvest.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

class StateService final : public v1::StateService::CallbackService {
 public:
  // `metrics` and what `context` names outlive this.
  StateService(const ServingContext& context, Metrics* metrics);

  grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>* HarvestStates(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetState(grpc::CallbackServerContext* context,
                                     const v1::GetStateRequest* request,
                                     v1::State* response) override;
  grpc::ServerUnaryReactor* ListStates(grpc::CallbackServerContext* context,
                                       const v1::ListStatesRequest* request,
                                       v1::ListStatesResponse* response) override;
  grpc::ServerUnaryReactor* UpdateState(grpc::CallbackServerContext* context,
                                        const v1::UpdateStateRequest* request,
                                        v1::State* response) override;
  grpc::ServerUnaryReactor* DeleteState(grpc::CallbackServerContext* context,
                                        const v1::DeleteStateRequest* request,
                                        v1::DeleteStateResponse* response) override;

 private:
  const ServingContext context_;
  Metrics* const metrics_;
  Harvester harvester_;
};

}  // namespace dreamstate::server
