// StateService. Harvests, transfers, graphs and the like have files of their own; what reads or
// changes one row of the store is here.
#pragma once

#include <memory>

#include "dreamstate/v1/state_service.grpc.pb.h"
#include "server/inference/harvest.h"
#include "server/inference/metrics.h"
#include "server/inference/places.h"
#include "server/inference/request_memory.h"
#include "server/inference/serving_context.h"
#include "server/inference/state_download.h"
#include "server/inference/state_upload.h"

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
  grpc::ServerUnaryReactor* DeleteStates(grpc::CallbackServerContext* context,
                                         const v1::DeleteStatesRequest* request,
                                         v1::DeleteStatesResponse* response) override;
  grpc::ServerReadReactor<v1::UploadStateRequest>* UploadState(grpc::CallbackServerContext* context,
                                                               v1::State* response) override;
  grpc::ServerWriteReactor<v1::DownloadStateResponse>* DownloadState(
      grpc::CallbackServerContext* context, const v1::DownloadStateRequest* request) override;
  grpc::ServerUnaryReactor* DescribeState(grpc::CallbackServerContext* context,
                                          const v1::DescribeStateRequest* request,
                                          v1::DescribeStateResponse* response) override;
  grpc::ServerUnaryReactor* CompareStates(grpc::CallbackServerContext* context,
                                          const v1::CompareStatesRequest* request,
                                          v1::CompareStatesResponse* response) override;
  grpc::ServerUnaryReactor* ProjectStates(grpc::CallbackServerContext* context,
                                          const v1::ProjectStatesRequest* request,
                                          v1::ProjectStatesResponse* response) override;
  grpc::ServerUnaryReactor* MigrateState(grpc::CallbackServerContext* context,
                                         const v1::MigrateStateRequest* request,
                                         v1::State* response) override;
  grpc::ServerUnaryReactor* GetLineage(grpc::CallbackServerContext* context,
                                       const v1::GetLineageRequest* request,
                                       v1::GetLineageResponse* response) override;

 private:
  // `body` () -> absl::Status on the executor.
  template <typename Body>
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context, Body body);
  // The same for what computes for seconds: few at once, so that threads are left for the store.
  template <typename Body>
  grpc::ServerUnaryReactor* RunGeometry(grpc::CallbackServerContext* context, Body body);
  // The same, once for all calls with the request's request_id.
  template <typename Request, typename Response, typename Body>
  grpc::ServerUnaryReactor* RunOnce(const char* method, grpc::CallbackServerContext* context,
                                    const Request* request, Response* response, Body body);

  const ServingContext context_;
  Metrics* const metrics_;
  const std::shared_ptr<RequestMemory> memory_;
  Harvester harvester_;
  Places geometry_{"descriptions, comparisons and maps of states", 2};
  Places migrating_tokens_{"tokens of states that migrate", context_.limits.max_migrating_tokens};
  StateUploads uploads_;
  StateDownloads downloads_;
};

}  // namespace dreamstate::server
