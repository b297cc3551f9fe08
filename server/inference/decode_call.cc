#include "server/inference/decode_call.h"

#include <utility>

#include "core/base/hash.h"
#include "core/base/status.h"
#include "server/inference/decode_retry.h"
#include "server/inference/source.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {
namespace {

// What is handed on from step to step.
struct Call {
  DecodeContext context;
  const v1::DecodeRequest* request;
  DecodeTask task;
  CallTimes times;
  CallerWatch* caller;
  DecodeSink* sink;
};

absl::Status Submit(Call& call) {
  const std::shared_ptr<Scheduler> scheduler = call.task.session->scheduler;
  return scheduler->Submit(std::make_shared<DecodeJob>(call.context.serving, std::move(call.task),
                                                       call.times, call.sink));
}

absl::Status SubmitInTurn(Call& call, absl::StatusOr<RequestMemory::Admission> admission) {
  DS_RETURN_IF_ERROR(admission.status());
  const ModelSession& session = *call.task.session;
  DS_ASSIGN_OR_RETURN(call.task.save->retry, DecodeRetry::Begin(*std::move(admission),
                                                                {session.weights->fingerprint,
                                                                 session.scheduler->numerics()},
                                                                &call.task.sampling.seed));
  return Submit(call);
}

// A source of another version's backbone is read on that version, by its own rules.
absl::Status TakeSource(Call& call, Source source) {
  if (source.session != nullptr && source.session != call.task.session) {
    DS_ASSIGN_OR_RETURN(DecodeTask task,
                        ValidateDecode(*call.request, source.session, call.context.serving.limits));
    if (task.save) task.save->content_sha256 = call.task.save->content_sha256;
    call.task = std::move(task);
    call.caller->Follow(call.task.session->scheduler->waker());
  }
  call.task.source = std::move(source);
  return absl::OkStatus();
}

// The source is there.
void Continue(std::shared_ptr<Call> call) {
  const auto run = [call](auto&& body) {
    const absl::Status status = WithoutExceptions(body);
    if (!status.ok()) call->sink->Finish(status, Unread::kSend);
  };
  if (!call->task.save || call->task.save->request_id.empty()) {
    run([&] { return Submit(*call); });
    return;
  }
  const RequestMemory::Key key = {
      .tenant = kTenant, .method = "Decode", .request_id = call->task.save->request_id};
  call->caller->WhenGone([requests = call->context.requests, key, gone = call->times.cancelled,
                          deadline = call->times.deadline, clock = call->context.serving.clock] {
    requests->Withdraw(key, *gone,
                       clock->Now() >= deadline ? absl::DeadlineExceededError("the deadline passed")
                                                : absl::CancelledError("the caller is gone"));
  });
  const std::string content_sha256 = call->task.save->content_sha256;
  call->context.requests->Enter(
      key, content_sha256,
      [call, run](absl::StatusOr<RequestMemory::Admission> admission) {
        run([&] { return SubmitInTurn(*call, std::move(admission)); });
      },
      call->times.cancelled);
}

}  // namespace

absl::StatusOr<DecodeTask> PrepareDecode(const DecodeContext& context,
                                         const v1::DecodeRequest& request) {
  const ServingContext& serving = context.serving;
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const ModelSession> session,
                      FindSession(*serving.models, request.model(), request.source()));
  DS_ASSIGN_OR_RETURN(DecodeTask task, ValidateDecode(request, std::move(session), serving.limits));
  if (task.save && !task.save->request_id.empty()) {
    task.save->content_sha256 = Sha256Hex(request.SerializeAsString());
  }
  return task;
}

void RunDecode(const DecodeContext& context, const v1::DecodeRequest& request, DecodeTask task,
               const CallTimes& times, CallerWatch* caller, DecodeSink* sink) {
  const std::shared_ptr<const ModelSession> session = task.session;
  caller->Follow(session->scheduler->waker());
  auto call = std::make_shared<Call>(Call{context, &request, std::move(task), times, caller, sink});
  if (call->task.source.record != nullptr) {
    Continue(std::move(call));
    return;
  }
  const std::string id = call->task.source_id;
  FetchSource(context.serving, session, id, [call](absl::StatusOr<Source> source) {
    if (!source.ok()) {
      call->sink->Finish(source.status(), Unread::kSend);
      return;
    }
    const absl::Status status =
        WithoutExceptions([&] { return TakeSource(*call, *std::move(source)); });
    if (!status.ok()) {
      call->sink->Finish(status, Unread::kSend);
      return;
    }
    Continue(call);
  });
}

}  // namespace dreamstate::server
