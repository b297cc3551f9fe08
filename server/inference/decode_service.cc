#include "server/inference/decode_service.h"

#include <cmath>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/inference/caller_watch.h"
#include "server/inference/decode_batch.h"
#include "server/inference/decode_call.h"
#include "server/inference/decode_validation.h"
#include "server/inference/errors.h"
#include "server/inference/score_job.h"
#include "server/inference/source.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

// One Decode stream. Deletes itself when gRPC is done with it, which is after Finish; everything
// else that knows it calls Finish last, once.
class DecodeStream final : public grpc::ServerWriteReactor<v1::DecodeResponse>, public DecodeSink {
 public:
  DecodeStream(const DecodeContext& context, const grpc::CallbackServerContext& call,
               const v1::DecodeRequest& request)
      : limits_(context.serving.limits),
        times_(TimesOf(call, *context.serving.clock)),
        caller_(times_.cancelled) {
    absl::StatusOr<DecodeTask> task = PrepareDecode(context, request);
    if (task.ok()) {
      // The request lives until the call is finished.
      RunDecode(context, request, *std::move(task), times_, &caller_, this);
    } else {
      Finish(task.status(), Unread::kSend);
    }
  }

  ReaderProgress reader() override {
    MutexLock lock(mutex_);
    return {.has_room = !full_, .taken = taken_};
  }

  void Send(v1::DecodeResponse message) override {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(message));
    full_ = full_ || queue_.size() >= Capacity();
    WriteNext();
  }

  void Finish(const absl::Status& status, Unread unread) override {
    bool end = false;
    {
      MutexLock lock(mutex_);
      status_ = status;
      dropped_ = unread == Unread::kDrop;
      if (dropped_) queue_.clear();
      end = Ends();
    }
    // The very last thing, without the lock: gRPC may delete this from here on.
    if (end) FinishCall(status);
  }

  void OnWriteDone(bool ok) override {
    bool wake = false;
    std::optional<absl::Status> end;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      ++taken_;
      if (!ok) queue_.clear();
      if (full_ && queue_.size() <= Capacity() / 2) {
        full_ = false;
        wake = true;
      }
      if (!finished_) WriteNext();
      if (Ends()) end = status_;
    }
    if (end) {
      FinishCall(*end);
    } else if (wake) {
      caller_.Wake();
    }
  }

  void OnCancel() override { caller_.Gone(); }
  void OnDone() override { delete this; }

 private:
  size_t Capacity() const { return static_cast<size_t>(limits_.stream_queue_messages); }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || queue_.empty()) return;
    current_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    StartWrite(&current_);
  }

  // Whether the call is to be finished now; true once.
  bool Ends() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || !status_) return false;
    if (!dropped_ && (writing_ || !queue_.empty())) return false;
    finished_ = true;
    return true;
  }

  void FinishCall(const absl::Status& status) {
    grpc::ServerWriteReactor<v1::DecodeResponse>::Finish(ToGrpcStatus(status));
  }

  const RequestLimits limits_;
  const CallTimes times_;
  CallerWatch caller_;
  Mutex mutex_;
  std::deque<v1::DecodeResponse> queue_ ABSL_GUARDED_BY(mutex_);
  v1::DecodeResponse current_ ABSL_GUARDED_BY(mutex_);  // being written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;  // until half of the queue is taken
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  bool dropped_ ABSL_GUARDED_BY(mutex_) = false;  // nobody takes what is written
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

// One Score call. Deletes itself as DecodeStream does.
class ScoreCall final : public grpc::ServerUnaryReactor {
 public:
  ScoreCall(const ServingContext& context, const grpc::CallbackServerContext& call,
            const v1::ScoreRequest& request, v1::ScoreResponse* response)
      : context_(context),
        times_(TimesOf(call, *context.clock)),
        caller_(times_.cancelled),
        response_(response) {
    if (absl::Status status = Begin(request); !status.ok()) Finish(ToGrpcStatus(status));
  }

  void OnCancel() override { caller_.Gone(); }
  void OnDone() override { delete this; }

 private:
  absl::Status Begin(const v1::ScoreRequest& request) {
    DS_ASSIGN_OR_RETURN(std::shared_ptr<const ModelSession> session,
                        FindSession(*context_.models, request.model(), request.source()));
    caller_.Follow(session->scheduler->waker());
    DS_ASSIGN_OR_RETURN(ScoreTask task, ValidateScore(request, session, context_.limits));
    Describe(task);
    if (task.source.record != nullptr) return Submit(std::move(task));
    const std::string id = task.source_id;
    auto shared = std::make_shared<ScoreTask>(std::move(task));
    // The request lives until the call is finished.
    FetchSource(context_, session, id, [this, shared, &request](absl::StatusOr<Source> source) {
      absl::Status status = source.status();
      if (source.ok()) {
        status = WithoutExceptions(
            [&] { return SubmitWith(*std::move(source), request, std::move(*shared)); });
      }
      if (!status.ok()) Finish(ToGrpcStatus(status));
    });
    return absl::OkStatus();
  }

  void Describe(const ScoreTask& task) {
    response_->set_model_version(task.session->VersionName());
    response_->set_target_tokens(static_cast<int64_t>(task.target.size()));
    response_->set_target_bytes(TextBytes(task.target, *task.session->tokenizer));
    per_token_ = task.per_token;
    response_->clear_token_bytes();
    if (!per_token_) return;
    for (const int32_t token : task.target) {
      const std::string_view bytes = TokenBytes(token, *task.session->tokenizer);
      response_->add_token_bytes(bytes.data(), bytes.size());
    }
  }

  absl::Status SubmitWith(Source source, const v1::ScoreRequest& request, ScoreTask task) {
    if (source.session != nullptr && source.session != task.session) {
      DS_ASSIGN_OR_RETURN(task, ValidateScore(request, source.session, context_.limits));
      caller_.Follow(task.session->scheduler->waker());
      Describe(task);
    }
    task.source = std::move(source);
    return Submit(std::move(task));
  }

  absl::Status Submit(ScoreTask task) {
    const std::shared_ptr<Scheduler> scheduler = task.session->scheduler;
    return scheduler->Submit(std::make_shared<ScoreJob>(
        std::move(task), times_,
        [this](absl::StatusOr<ScoreResult> result) { Answer(std::move(result)); },
        context_.prefixes));
  }

  void Answer(absl::StatusOr<ScoreResult> result) {
    if (!result.ok()) {
      Finish(ToGrpcStatus(result.status()));
      return;
    }
    response_->set_total_nats(result->total_nats);
    // Targets without bytes (special tokens alone) have no bits per byte.
    if (response_->target_bytes() > 0) {
      response_->set_bits_per_byte(result->total_nats / std::log(2.0) /
                                   static_cast<double>(response_->target_bytes()));
    }
    if (per_token_) {
      response_->mutable_token_nats()->Add(result->token_nats.begin(), result->token_nats.end());
    }
    Finish(grpc::Status::OK);
  }

  const ServingContext context_;
  const CallTimes times_;
  CallerWatch caller_;
  v1::ScoreResponse* const response_;
  bool per_token_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::DecodeResponse>* DecodeService::Decode(
    grpc::CallbackServerContext* context, const v1::DecodeRequest* request) {
  return new DecodeStream(context_, *context, *request);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* DecodeService::DecodeBatch(
    grpc::CallbackServerContext* context) {
  return StartDecodeBatch(context_, *context);
}

grpc::ServerUnaryReactor* DecodeService::Score(grpc::CallbackServerContext* context,
                                               const v1::ScoreRequest* request,
                                               v1::ScoreResponse* response) {
  return new ScoreCall(context_.serving, *context, *request, response);
}

}  // namespace dreamstate::server
