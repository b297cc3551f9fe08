// The UploadState handler: takes a file in chunks, in memory of at most what a state of the model
// can have, and stores it on the executor. A stream that sends nothing for stream_silence is ended.
#pragma once

#include <memory>

#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/support/server_callback.h"
#include "server/inference/metrics.h"
#include "server/inference/places.h"
#include "server/inference/request_memory.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

class StateUploads {
 public:
  StateUploads(const ServingContext& context, Metrics* metrics,
               std::shared_ptr<RequestMemory> memory)
      : context_(context),
        metrics_(metrics),
        memory_(std::move(memory)),
        places_("state uploads", context.limits.max_uploads) {}

  grpc::ServerReadReactor<v1::UploadStateRequest>* Start(grpc::CallbackServerContext* call,
                                                         v1::State* response);

 private:
  const ServingContext context_;
  Metrics* const metrics_;
  const std::shared_ptr<RequestMemory> memory_;
  Places places_;
};

}  // namespace dreamstate::server
