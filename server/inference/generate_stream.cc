#include "server/inference/generate_stream.h"

#include <deque>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "core/base/hash.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "server/inference/errors.h"
#include "server/inference/generate_states.h"
#include "server/inference/state_messages.h"
#include "server/inference/transfer.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

class GenerateStream final : public grpc::ServerWriteReactor<v1::GenerateStatesResponse>,
                             public GenerationSink,
                             public Transfer {
 public:
  GenerateStream(const GenerationContext& context, std::shared_ptr<RequestMemory> memory,
                 grpc::CallbackServerContext* call, const v1::GenerateStatesRequest& request)
      : Transfer(context.serving),
        generation_(context),
        memory_(std::move(memory)),
        call_(*call),
        request_(request),
        times_(TimesOf(*call, *context.serving.clock)),
        key_({.tenant = kTenant,
              .method = "GenerateStates",
              // What is sent and not stored leaves nothing behind that a retry could double.
              .request_id = request.inline_tensors() ? "" : request.request_id()}) {}

  void Begin() {
    Open();
    memory_->Enter(
        key_, Sha256Hex(request_.SerializeAsString()),
        [this](absl::StatusOr<RequestMemory::Admission> admission) {
          if (!admission.ok()) {
            End(admission.status());
          } else if (admission->turn == nullptr) {
            Replay(admission->answer);
          } else {
            Work(admission->turn);
          }
        },
        times_.cancelled);
  }

  void Send(v1::GenerateStatesResponse message) override {
    if (!key_.request_id.empty()) {
      google::protobuf::util::SerializeDelimitedToOstream(message, &sent_);
    }
    MutexLock lock(mutex_);
    if (stalled_) return;
    queue_.push_back(std::move(message));
    WriteNext();
  }
  void Progress(int step, int steps) override {
    MutexLock lock(mutex_);
    if (stalled_) return;
    if (queue_.empty() || !queue_.back().has_progress()) queue_.emplace_back();
    queue_.back().mutable_progress()->set_step(step);
    queue_.back().mutable_progress()->set_steps(steps);
    WriteNext();
  }
  absl::Status Wanted() override {
    {
      MutexLock lock(mutex_);
      if (stalled_) return *stalled_;
    }
    return CheckWanted(call_);
  }

  void OnWriteDone(bool ok) override {
    std::optional<absl::Status> end;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      Moved();
      if (!ok) queue_.clear();
      if (!finished_) WriteNext();
      end = TakeEnd();
    }
    if (end) Finish(ToGrpcStatus(*end));
  }
  void OnCancel() override {
    times_.cancelled->store(true, std::memory_order_relaxed);
    const absl::Status late = CheckWanted(call_);
    memory_->Withdraw(key_, *times_.cancelled,
                      late.ok() ? absl::CancelledError("the caller is gone") : late);
  }
  void OnDone() override { Close(); }

 private:
  void Visited(absl::Duration silent, bool /*draining*/) override {
    const absl::Duration limit = context_.limits.reader_stall;
    std::optional<absl::Status> end;
    {
      MutexLock lock(mutex_);
      if (!writing_ || silent < limit) return;
      if (finished_) {
        // What was written is held until it is read.
        call_.TryCancel();
        return;
      }
      stalled_ = QuotaError("stream reader",
                            StrCat("nothing was read for ", absl::FormatDuration(limit)), {});
      times_.cancelled->store(true, std::memory_order_relaxed);
      queue_.clear();
      end = TakeEnd();
    }
    Moved();
    if (end) Finish(ToGrpcStatus(*end));
  }

  // Must neither block nor throw. The stream lives until its end, which comes after the work's.
  void Work(std::shared_ptr<RequestMemory::Turn> turn) {
    const bool taken = generation_.workers->TrySubmit([this, turn]() mutable {
      absl::Status status = Wanted();
      if (status.ok()) {
        status =
            WithoutExceptions([&] { return GenerateStates(generation_, request_, times_, this); });
      }
      if (status.ok() && !key_.request_id.empty()) turn->Remember(sent_.str());
      turn.reset();
      End(status);
    });
    if (taken) return;
    turn.reset();
    End(QuotaError("waiting generations", "too many calls wait for the state DiT",
                   absl::Seconds(1)));
  }

  // Answers as the first call of this request_id did.
  void Replay(const std::string& answer) {
    google::protobuf::io::ArrayInputStream bytes(answer.data(), static_cast<int>(answer.size()));
    MutexLock lock(mutex_);
    for (v1::GenerateStatesResponse message;
         google::protobuf::util::ParseDelimitedFromZeroCopyStream(&message, &bytes, nullptr);
         message.Clear()) {
      queue_.push_back(message);
    }
    status_ = absl::OkStatus();
    WriteNext();
  }

  // The work is done.
  void End(const absl::Status& status) {
    std::optional<absl::Status> end;
    {
      MutexLock lock(mutex_);
      status_ = status;
      end = TakeEnd();
    }
    if (end) Finish(ToGrpcStatus(*end));
  }

  // The status that the call is to be finished with now, once.
  std::optional<absl::Status> TakeEnd() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || !status_) return std::nullopt;
    if (!stalled_ && (writing_ || !queue_.empty())) return std::nullopt;
    finished_ = true;
    return stalled_ ? stalled_ : status_;
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || queue_.empty()) return;
    current_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    Moved();
    StartWrite(&current_);
  }

  const GenerationContext generation_;
  const std::shared_ptr<RequestMemory> memory_;
  grpc::CallbackServerContext& call_;
  const v1::GenerateStatesRequest request_;
  const CallTimes times_;
  const RequestMemory::Key key_;
  std::ostringstream sent_;  // of a call with a request_id; the worker's
  Mutex mutex_;
  std::deque<v1::GenerateStatesResponse> queue_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateStatesResponse current_ ABSL_GUARDED_BY(mutex_);  // being written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);   // of the work
  std::optional<absl::Status> stalled_ ABSL_GUARDED_BY(mutex_);  // the reader takes nothing
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::GenerateStatesResponse>* StartGenerateStates(
    const GenerationContext& context, std::shared_ptr<RequestMemory> memory,
    grpc::CallbackServerContext* call, const v1::GenerateStatesRequest& request) {
  const auto stream = std::make_shared<GenerateStream>(context, std::move(memory), call, request);
  stream->Begin();
  return stream.get();
}

}  // namespace dreamstate::server
