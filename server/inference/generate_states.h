// GenerationService's GenerateStates: checks a request, has its states made by the state DiT's
// loop, chooses among candidates, judges, and stores or sends each.
#pragma once

#include "dreamstate/v1/generation_service.pb.h"
#include "server/inference/caller_watch.h"
#include "server/inference/generation_context.h"

namespace dreamstate::server {

// Where a call's messages go. Must not block.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void Send(v1::GenerateStatesResponse message) = 0;
  // Replaces one that was not sent yet.
  virtual void Progress(int step, int steps) = 0;
  // Why nobody waits for the call any more, or OK. Any thread.
  virtual absl::Status Wanted() = 0;
};

// The whole call, from beginning to end; waits for the engine, the loop and the store.
absl::Status GenerateStates(const GenerationContext& context,
                            const v1::GenerateStatesRequest& request, const CallTimes& times,
                            GenerationSink* sink);

}  // namespace dreamstate::server
