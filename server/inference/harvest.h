// StateService.HarvestStates: options first, then documents; states come back as they become
// durable. Documents are read side by side as bulk jobs of the model's scheduler; the stream is not
// read further while enough of them are in flight.
#pragma once

#include <memory>

#include "dreamstate/v1/state_service.grpc.pb.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

class HarvestMemory;

// What all harvest streams of a server share: how many there are, and the states made for each
// request_id. A retry with a request_id answers with the states made before as long as this process
// lives and remembers them (RequestLimits). Thread-safe; outlives its streams.
class Harvester {
 public:
  explicit Harvester(const ServingContext& context);
  ~Harvester();
  Harvester(const Harvester&) = delete;
  Harvester& operator=(const Harvester&) = delete;

  // The reactor of one stream; deletes itself when the stream is done.
  grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>* Start(
      grpc::CallbackServerContext* context);

 private:
  ServingContext context_;
  std::shared_ptr<HarvestMemory> memory_;  // shared with streams and writes
};

}  // namespace dreamstate::server
