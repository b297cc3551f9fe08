// Runs the body of a unary handler on an executor, so that no thread of gRPC waits for files, and
// ends the call with its status.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/base/hash.h"
#include "core/base/status.h"
#include "grpcpp/server_context.h"
#include "server/inference/errors.h"
#include "server/inference/executor.h"
#include "server/inference/request_memory.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {

// DEADLINE_EXCEEDED or CANCELLED once nobody waits for a call's answer.
inline absl::Status CheckWanted(const grpc::CallbackServerContext& context) {
  if (context.deadline() <= std::chrono::system_clock::now()) {
    return absl::DeadlineExceededError("the deadline passed before the work was done");
  }
  if (context.IsCancelled()) return absl::CancelledError("the caller is gone");
  return absl::OkStatus();
}

inline absl::Status ExecutorFull() {
  return QuotaError("waiting calls", "too many calls wait for the state store", absl::Seconds(1));
}

// Runs `body` () -> absl::Status on the executor and gives `done` its status, there; `body` is not
// run when nobody waits for the answer. A full executor: `done` gets RESOURCE_EXHAUSTED before this
// returns.
template <typename Body>
void RunOnExecutor(Executor& executor, const grpc::CallbackServerContext* context, Body body,
                   std::function<void(absl::Status)> done) {
  const bool taken = executor.TrySubmit([context, body = std::move(body), done] {
    absl::Status status = CheckWanted(*context);
    if (status.ok()) status = WithoutExceptions(body);
    done(std::move(status));
  });
  if (!taken) done(ExecutorFull());
}

// `body` () -> absl::Status may use the call's request and response.
template <typename Body>
grpc::ServerUnaryReactor* RunUnary(Executor& executor, grpc::CallbackServerContext* context,
                                   Body body) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  RunOnExecutor(executor, context, std::move(body),
                [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

// A call that may wait for another of its request_id, until its caller is gone. Deletes itself when
// gRPC is done with it, which is after Finish.
class OnceCall final : public grpc::ServerUnaryReactor {
 public:
  OnceCall(RequestMemory& memory, RequestMemory::Key key,
           const grpc::CallbackServerContext& context)
      : memory_(memory), key_(std::move(key)), context_(context) {}

  void Enter(const std::string& content_sha256, RequestMemory::Admitted admitted) {
    memory_.Enter(key_, content_sha256, std::move(admitted), gone_);
  }
  void OnCancel() override {
    gone_->store(true, std::memory_order_relaxed);
    const absl::Status late = CheckWanted(context_);
    memory_.Withdraw(key_, *gone_, late.ok() ? absl::CancelledError("the caller is gone") : late);
  }
  void OnDone() override { delete this; }

 private:
  RequestMemory& memory_;
  const RequestMemory::Key key_;
  const grpc::CallbackServerContext& context_;
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
};

// The same for a method whose requests have a request_id: `start` (done) begins the work, unless a
// call of the same id and content succeeded before, whose answer is then given again. `done` is
// called once, at the work's end.
template <typename Request, typename Response, typename Start>
grpc::ServerUnaryReactor* RunUnaryOnce(RequestMemory& memory, const char* method,
                                       grpc::CallbackServerContext* context, const Request* request,
                                       Response* response, Start start) {
  auto* const reactor = new OnceCall(
      memory, {.tenant = kTenant, .method = method, .request_id = request->request_id()}, *context);
  reactor->Enter(
      Sha256Hex(request->SerializeAsString()),
      [=](absl::StatusOr<RequestMemory::Admission> admission) {
        if (!admission.ok()) {
          reactor->Finish(ToGrpcStatus(admission.status()));
        } else if (admission->turn == nullptr) {
          const bool whole = response->ParseFromString(admission->answer);
          reactor->Finish(ToGrpcStatus(whole ? absl::OkStatus()
                                             : absl::InternalError("the answer was not kept")));
        } else {
          start([reactor, response, turn = admission->turn](const absl::Status& status) {
            if (status.ok()) turn->Remember(response->SerializeAsString());
            reactor->Finish(ToGrpcStatus(status));
          });
        }
      });
  return reactor;
}

}  // namespace dreamstate::server
