// Runs the body of a unary handler on an executor, so that no thread of gRPC waits for files, and
// ends the call with its status.
#pragma once

#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "grpcpp/server_context.h"
#include "server/inference/errors.h"
#include "server/inference/executor.h"

namespace dreamstate::server {

// `body` () -> absl::Status may use the call's request and response. It is not run when the caller
// is gone or its deadline has passed; a full executor answers RESOURCE_EXHAUSTED.
template <typename Body>
grpc::ServerUnaryReactor* RunUnary(Executor& executor, grpc::CallbackServerContext* context,
                                   Body body) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool taken = executor.TrySubmit([context, reactor, body = std::move(body)] {
    absl::Status status;
    if (context->deadline() <= std::chrono::system_clock::now()) {
      status = absl::DeadlineExceededError("the deadline passed before work began");
    } else if (context->IsCancelled()) {
      status = absl::CancelledError("the caller is gone");
    } else {
      try {
        status = body();
      } catch (const std::bad_alloc&) {
        status = QuotaError("memory", "not enough memory for this call", absl::Seconds(1));
      } catch (const std::exception& error) {
        status = absl::InternalError(error.what());
      }
    }
    reactor->Finish(ToGrpcStatus(status));
  });
  if (!taken) {
    reactor->Finish(ToGrpcStatus(
        QuotaError("waiting calls", "too many calls wait for the state store", absl::Seconds(1))));
  }
  return reactor;
}

}  // namespace dreamstate::server
