// The DownloadState handler: makes the file on the executor and sends it chunk after chunk, each
// once the one before was taken. A reader that takes nothing for reader_stall is ended; one that
// does not take the status either for as long again is cut off, and its place is free.
#pragma once

#include "dreamstate/v1/state_service.pb.h"
#include "grpcpp/support/server_callback.h"
#include "server/inference/metrics.h"
#include "server/inference/places.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

class StateDownloads {
 public:
  StateDownloads(const ServingContext& context, Metrics* metrics)
      : context_(context),
        metrics_(metrics),
        places_("state downloads", context.limits.max_downloads) {}

  grpc::ServerWriteReactor<v1::DownloadStateResponse>* Start(
      grpc::CallbackServerContext* call, const v1::DownloadStateRequest& request);

 private:
  const ServingContext context_;
  Metrics* const metrics_;
  Places places_;
};

}  // namespace dreamstate::server
