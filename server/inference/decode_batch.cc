#include "server/inference/decode_batch.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "server/inference/caller_watch.h"
#include "server/inference/errors.h"
#include "server/inference/open_streams.h"
#include "server/inference/stall_watch.h"

namespace dreamstate::server {
namespace {

// One stream. What is under way keeps it alive: it finishes the call only when no decode is, and
// deletes itself when gRPC is done with it.
class BatchStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                          public OpenStream {
 public:
  BatchStream(const DecodeContext& context, const grpc::CallbackServerContext& call)
      : context_(context),
        limits_(context.serving.limits),
        clock_(*context.serving.clock),
        times_(TimesOf(call, clock_)),
        last_answers_(limits_.reader_stall) {
    if (context_.serving.streams != nullptr) context_.serving.streams->Add(this);
    Turn turn(*this);
  }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override {
    if (context_.serving.streams != nullptr) context_.serving.streams->Remove(this);
    delete this;
  }

  bool BeginVisit() override;
  void EndVisit(bool draining) override;

 private:
  // One decode, from when it was read to its Finish.
  struct Decode final : DecodeSink {
    Decode(BatchStream* owner, v1::DecodeBatchRequest message)
        : stream(owner),
          id(message.id()),
          bytes(static_cast<int64_t>(message.ByteSizeLong())),
          request(std::move(*message.mutable_request())),
          times(owner->times_),
          caller(times.cancelled) {
      times.arrival = owner->clock_.Now();
    }
    ReaderProgress reader() override { return stream->Reader(); }
    void Send(v1::DecodeResponse message) override { stream->Answer(*this, std::move(message)); }
    void Finish(const absl::Status& status, Unread unread) override {
      stream->Ended(*this, status, unread);
    }

    BatchStream* const stream;
    const std::string id;
    int64_t bytes;  // of the request, and of what was made of it
    const v1::DecodeRequest request;
    CallTimes times;
    CallerWatch caller;
    std::optional<DecodeTask> task;  // until it runs
    int slots = 0;                   // that it holds or waits for
  };

  // One event's hold on the stream. At its end it lets the stream read on or finish; finishing is
  // the very last thing and is done without the lock, because gRPC may delete the stream from then
  // on.
  class ABSL_SCOPED_LOCKABLE Turn {
   public:
    explicit Turn(BatchStream& stream) ABSL_EXCLUSIVE_LOCK_FUNCTION(stream.mutex_)
        : stream_(stream) {
      stream_.mutex_.Lock();
    }
    ~Turn() ABSL_UNLOCK_FUNCTION() {
      stream_.ReadNext();
      stream_.NoteSilence();
      const std::optional<absl::Status> end = stream_.End();
      BatchStream& stream = stream_;
      const std::vector<std::function<void()>> leaving = std::exchange(stream_.leaving_, {});
      stream_.mutex_.Unlock();
      // Decodes end by this, and maybe the stream, unless it ends here anyway.
      for (const std::function<void()>& leave : leaving) leave();
      if (end) stream.Finish(ToGrpcStatus(*end));
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    BatchStream& stream_;
  };

  ReaderProgress Reader();
  void Answer(const Decode& decode, v1::DecodeResponse message);
  void Ended(Decode& decode, const absl::Status& status, Unread unread);

  // Takes a message that was read, or says what is wrong with it: then the stream ends.
  absl::Status Take(grpc::ByteBuffer* bytes);
  // Hands decodes that wait to their schedulers while there is room. Whoever calls it holds the
  // stream (holds_).
  void StartWaiting();
  Decode* NextToStart() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The stream ends with this error once what runs has ended, which it is told to do.
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes one out that only the stream knows.
  void Drop(const Decode& decode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(v1::DecodeBatchResponse message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return holds_ == 0 && decodes_.empty();
  }
  bool AllTold() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !writing_ && queue_.empty(); }
  void NoteSilence() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The status to finish with when the time has come; answers once.
  std::optional<absl::Status> End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ReaderStalled() const {
    return QuotaError("stream reader",
                      StrCat("nothing was read for ", absl::FormatDuration(limits_.reader_stall)),
                      {});
  }

  const DecodeContext context_;
  const RequestLimits& limits_;
  const Clock& clock_;
  const CallTimes times_;
  grpc::ByteBuffer request_;  // belongs to gRPC while reading_

  Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool reads_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;  // nobody takes what is written
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool starting_ ABSL_GUARDED_BY(mutex_) = false;  // somebody is in StartWaiting
  int holds_ ABSL_GUARDED_BY(mutex_) = 0;          // of events that are being handled
  std::map<std::string, std::unique_ptr<Decode>> decodes_ ABSL_GUARDED_BY(mutex_);
  // Freed with the stream, without its lock: a decode may be the last to hold a version.
  std::vector<std::unique_ptr<Decode>> dropped_ ABSL_GUARDED_BY(mutex_);
  // To be called when the lock is free.
  std::vector<std::function<void()>> leaving_ ABSL_GUARDED_BY(mutex_);
  std::deque<Decode*> waiting_ ABSL_GUARDED_BY(mutex_);  // of decodes_, for slots
  int slots_ ABSL_GUARDED_BY(mutex_) = 0;                // that the others hold or wait for
  int64_t bytes_in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::DecodeBatchResponse> queue_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer current_ ABSL_GUARDED_BY(mutex_);  // being written
  bool full_ ABSL_GUARDED_BY(mutex_) = false;         // until half of the queue is taken
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  // Since when nothing runs, all is told and the client says nothing.
  absl::Time silent_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  StallWatch last_answers_ ABSL_GUARDED_BY(mutex_);  // when no decode runs
};

void BatchStream::ReadNext() {
  if (reading_ || reads_done_ || finished_ || holds_ > 0 || full_ || !failure_.ok() ||
      decodes_.size() >= static_cast<size_t>(limits_.batch_decodes_in_flight) ||
      bytes_in_flight_ >= limits_.batch_buffered_bytes) {
    return;
  }
  reading_ = true;
  StartRead(&request_);
}

void BatchStream::OnReadDone(bool ok) {
  {
    Turn turn(*this);
    reading_ = false;
    reads_done_ = !ok;
    if (!ok || !failure_.ok()) return;
    ++holds_;
  }
  const absl::Status status = Take(&request_);
  if (status.ok()) StartWaiting();
  Turn turn(*this);
  --holds_;
  if (!status.ok()) Fail(status);
}

absl::Status BatchStream::Take(grpc::ByteBuffer* bytes) {
  v1::DecodeBatchRequest message;
  if (!grpc::SerializationTraits<v1::DecodeBatchRequest>::Deserialize(bytes, &message).ok()) {
    return absl::InvalidArgumentError("the request's bytes are no message of this method");
  }
  const size_t most = static_cast<size_t>(limits_.max_decode_id_bytes);
  if (message.id().empty() || message.id().size() > most) {
    return FieldError("id", StrCat("expected 1 to ", most, " bytes, found ", message.id().size()));
  }
  const bool has_request = message.has_request();
  auto owned = std::make_unique<Decode>(this, std::move(message));
  Decode& decode = *owned;
  {
    MutexLock lock(mutex_);
    if (!decodes_.try_emplace(decode.id, std::move(owned)).second) {
      return FieldError("id", "is that of a decode that still runs");
    }
    bytes_in_flight_ += decode.bytes;
  }
  absl::StatusOr<DecodeTask> task = FieldError("request", "expected a request");
  if (has_request) task = PrepareDecode(context_, decode.request);
  if (!task.ok()) {
    Ended(decode, task.status(), Unread::kSend);
    return absl::OkStatus();
  }
  const int64_t prompt_bytes = static_cast<int64_t>(task->prompt.size() * sizeof(int32_t));
  decode.task = *std::move(task);
  MutexLock lock(mutex_);
  if (!failure_.ok()) {
    Drop(decode);
    return absl::OkStatus();
  }
  decode.bytes += prompt_bytes;
  bytes_in_flight_ += prompt_bytes;
  waiting_.push_back(&decode);
  return absl::OkStatus();
}

BatchStream::Decode* BatchStream::NextToStart() {
  if (starting_ || waiting_.empty() || !failure_.ok()) return nullptr;
  Decode* next = waiting_.front();
  const int share = std::max(1, next->task->session->scheduler->options().slots / 2);
  if (slots_ > 0 && slots_ + next->task->branches > share) return nullptr;
  waiting_.pop_front();
  next->slots = next->task->branches;
  slots_ += next->slots;
  starting_ = true;
  return next;
}

void BatchStream::StartWaiting() {
  while (true) {
    Decode* next = nullptr;
    {
      MutexLock lock(mutex_);
      next = NextToStart();
    }
    if (next == nullptr) return;
    // It may have ended when this returns.
    RunDecode(context_, next->request, *std::exchange(next->task, std::nullopt), next->times,
              &next->caller, next);
    MutexLock lock(mutex_);
    starting_ = false;
  }
}

ReaderProgress BatchStream::Reader() {
  MutexLock lock(mutex_);
  return {.has_room = !full_, .taken = taken_};
}

void BatchStream::Answer(const Decode& decode, v1::DecodeResponse message) {
  v1::DecodeBatchResponse answer;
  answer.set_id(decode.id);
  *answer.mutable_response() = std::move(message);
  Turn turn(*this);
  Write(std::move(answer));
}

void BatchStream::Ended(Decode& decode, const absl::Status& status, Unread unread) {
  std::unique_ptr<Decode> ended;  // what it holds goes without the lock
  {
    Turn turn(*this);
    ++holds_;
    const auto entry = decodes_.find(decode.id);
    ended = std::move(entry->second);
    decodes_.erase(entry);
    slots_ -= decode.slots;
    bytes_in_flight_ -= decode.bytes;
    if (unread == Unread::kDrop) {
      // Its caller is the stream's, and so is its reader. Once the stream has failed it says
      // nothing about them: the stream itself has ended what ran.
      if (failure_.ok()) {
        gone_ = true;
        queue_.clear();
        Fail(status);
      }
    } else {
      v1::DecodeBatchResponse answer;
      answer.set_id(decode.id);
      if (status.ok()) {
        answer.mutable_done();
      } else {
        answer.mutable_error()->ParseFromString(ToGrpcStatus(status).error_details());
      }
      Write(std::move(answer));
    }
  }
  ended.reset();
  StartWaiting();
  Turn turn(*this);
  --holds_;
}

void BatchStream::Fail(const absl::Status& status) {
  if (!failure_.ok()) return;
  failure_ = status;
  for (const Decode* decode : waiting_) Drop(*decode);
  waiting_.clear();
  times_.cancelled->store(true, std::memory_order_relaxed);
  for (const auto& [id, decode] : decodes_) {
    if (std::function<void()> leave = decode->caller.Leave()) leaving_.push_back(std::move(leave));
  }
}

void BatchStream::Drop(const Decode& decode) {
  const auto entry = decodes_.find(decode.id);
  dropped_.push_back(std::move(entry->second));
  decodes_.erase(entry);
}

void BatchStream::Write(v1::DecodeBatchResponse message) {
  if (gone_) return;
  queue_.push_back(std::move(message));
  full_ = full_ || queue_.size() >= static_cast<size_t>(limits_.batch_queue_messages);
  WriteNext();
}

void BatchStream::WriteNext() {
  if (writing_ || queue_.empty() || finished_) return;
  bool own = false;
  current_.Clear();
  grpc::SerializationTraits<v1::DecodeBatchResponse>::Serialize(queue_.front(), &current_, &own);
  queue_.pop_front();
  writing_ = true;
  StartWrite(&current_);
}

void BatchStream::OnWriteDone(bool ok) {
  Turn turn(*this);
  writing_ = false;
  ++taken_;
  if (!ok) {
    gone_ = true;
    queue_.clear();
  }
  if (full_ && queue_.size() <= static_cast<size_t>(limits_.batch_queue_messages) / 2) {
    full_ = false;
    for (const auto& [id, decode] : decodes_) decode->caller.Wake();
  }
  WriteNext();
}

void BatchStream::OnCancel() {
  Turn turn(*this);
  gone_ = true;
  queue_.clear();
  const bool late = clock_.Now() >= times_.deadline;
  Fail(late ? absl::DeadlineExceededError("the deadline passed")
            : absl::CancelledError("the caller is gone"));
}

bool BatchStream::BeginVisit() {
  MutexLock lock(mutex_);
  if (finished_) return false;
  ++holds_;
  return true;
}

void BatchStream::EndVisit(bool draining) {
  Turn turn(*this);
  --holds_;
  draining_ = draining_ || draining;
  const absl::Time now = clock_.Now();
  if (IsIdle() && !last_answers_.Check({.has_room = AllTold(), .taken = taken_}, now)) {
    gone_ = true;
    queue_.clear();
    Fail(ReaderStalled());
  }
  if (now - silent_since_ >= limits_.stream_silence) {
    Fail(QuotaError("stream writer",
                    StrCat("nothing was sent for ", absl::FormatDuration(limits_.stream_silence)),
                    {}));
  }
}

void BatchStream::NoteSilence() {
  if (!reading_ || !IsIdle() || !AllTold()) {
    silent_since_ = absl::InfiniteFuture();
  } else if (silent_since_ == absl::InfiniteFuture()) {
    silent_since_ = clock_.Now();
  }
}

std::optional<absl::Status> BatchStream::End() {
  if (finished_ || !IsIdle()) return std::nullopt;
  if (failure_.ok() && !reads_done_) {
    if (!draining_) return std::nullopt;
    failure_ = UnavailableError("the server is shutting down", absl::Seconds(1));
  }
  // What was made is told even when the stream fails, unless nobody listens.
  if (!gone_ && !AllTold()) return std::nullopt;
  finished_ = true;
  return failure_;
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartDecodeBatch(
    const DecodeContext& context, const grpc::CallbackServerContext& call) {
  return new BatchStream(context, call);
}

}  // namespace dreamstate::server
