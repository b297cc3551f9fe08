// A decode on its way from its request to its job, the same for Decode and for each decode of a
// DecodeBatch: finds the model, checks the request, fetches the source, waits for the turn of its
// request_id, and gives the job to the model's scheduler. Blocks on nothing. Thread-safe.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/inference/caller_watch.h"
#include "server/inference/decode_job.h"
#include "server/inference/decode_validation.h"
#include "server/inference/request_memory.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

struct DecodeContext {
  ServingContext serving;
  std::shared_ptr<RequestMemory> requests;
};

// The first half: what can be said at once. Errors as ModelDirectory::Find and ValidateDecode.
absl::StatusOr<DecodeTask> PrepareDecode(const DecodeContext& context,
                                         const v1::DecodeRequest& request);

// The second half. One sink->Finish follows, maybe before this returns; until then `request`,
// `caller` and `sink` live. `caller` follows the scheduler that is chosen.
void RunDecode(const DecodeContext& context, const v1::DecodeRequest& request, DecodeTask task,
               const CallTimes& times, CallerWatch* caller, DecodeSink* sink);

}  // namespace dreamstate::server
