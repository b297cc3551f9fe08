#include "server/inference/harvest.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "core/base/hash.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/caller_watch.h"
#include "server/inference/errors.h"
#include "server/inference/harvest_job.h"
#include "server/inference/harvest_memory.h"
#include "server/inference/harvest_validation.h"
#include "server/inference/stall_watch.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {
namespace {

// One HarvestStates stream. What is under way keeps it alive: it finishes the call only when no
// document and no fetch is, and deletes itself when gRPC is done with it.
class HarvestStream final
    : public grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>,
      public HarvestSink,
      public OpenStream {
 public:
  HarvestStream(const ServingContext& context, std::shared_ptr<HarvestMemory> memory,
                const grpc::CallbackServerContext& call)
      : context_(context),
        memory_(std::move(memory)),
        times_(TimesOf(call, *context.clock)),
        caller_(times_.cancelled),
        last_progress_(times_.arrival),
        stall_(context.limits.reader_stall),
        last_answers_(context.limits.reader_stall) {
    if (context_.streams != nullptr) context_.streams->Add(this);
    Turn turn(*this);
  }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override {
    if (context_.streams != nullptr) context_.streams->Remove(this);
    delete this;
  }

  bool BeginVisit() override;
  void EndVisit(bool draining) override;

  bool HasRoom() override;
  absl::Time alarm() override;
  void TokensRead(int64_t tokens) override;
  void StateMade(v1::HarvestedState state) override;
  void DocumentDone(const DocumentTask& task, const absl::Status& status) override;

 private:
  enum class Running { kGoOn, kEnd };

  // One event's hold on the stream. At its end it lets the stream read on or finish; finishing is
  // the very last thing and is done without the lock, because gRPC may delete the stream from then
  // on.
  class ABSL_SCOPED_LOCKABLE Turn {
   public:
    explicit Turn(HarvestStream& stream) ABSL_EXCLUSIVE_LOCK_FUNCTION(stream.mutex_)
        : stream_(stream) {
      stream_.mutex_.Lock();
    }
    ~Turn() ABSL_UNLOCK_FUNCTION() {
      stream_.ReadNext();
      stream_.NoteSilence();
      const std::optional<absl::Status> end = stream_.End();
      HarvestStream& stream = stream_;
      stream_.mutex_.Unlock();
      if (end) stream.Finish(ToGrpcStatus(*end));
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    HarvestStream& stream_;
  };

  absl::Status TakeOptions(const v1::HarvestOptions& options);
  void TakeDocument(const v1::Document& document);
  absl::Status Launch(const v1::Document& document, DocumentTask task);
  // Answers with the states that are known, then reads the document for the others. On the
  // executor.
  void AnswerFromMemory(DocumentTask task, const std::map<int64_t, std::string>& known);
  // False when there are others, and a job that reads the document for them.
  absl::StatusOr<bool> AnswerKnown(DocumentTask task, const std::map<int64_t, std::string>& known);
  absl::Status Submit(DocumentTask task);

  void Settle(const std::string& document_id, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DocumentFailed(const std::string& document_id, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The stream ends with this error once what runs has ended: by itself, or at once.
  void Fail(const absl::Status& status, Running running) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Progress() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(v1::HarvestStatesResponse message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !handling_ && fetches_ == 0 && in_flight_.empty();
  }
  bool AllTold() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !writing_ && queue_.empty(); }
  // Keeps silent_since_ up to date.
  void NoteSilence() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nobody reads the answers.
  void ReaderStalled() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The status to finish with when the time has come; answers once.
  std::optional<absl::Status> End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ServingContext context_;
  const std::shared_ptr<HarvestMemory> memory_;
  const CallTimes times_;
  CallerWatch caller_;
  v1::HarvestStatesRequest request_;  // belongs to gRPC while reading_

  // Set with the options, before any document; constant afterwards.
  std::shared_ptr<const HarvestPlan> plan_;
  std::shared_ptr<HarvestMemory::Lease> lease_;
  std::set<std::string> document_ids_;  // only where messages are handled, one at a time

  Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool handling_ ABSL_GUARDED_BY(mutex_) = false;  // what was read
  bool reads_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;  // nobody takes what is written
  bool summarised_ ABSL_GUARDED_BY(mutex_) = false;
  bool have_plan_ ABSL_GUARDED_BY(mutex_) = false;
  int fetches_ ABSL_GUARDED_BY(mutex_) = 0;
  int visits_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // Since when nothing runs, all is told and the client says nothing.
  absl::Time silent_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  std::map<std::string, int64_t> in_flight_ ABSL_GUARDED_BY(mutex_);  // document id -> bytes
  int64_t bytes_in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::HarvestStatesResponse> queue_ ABSL_GUARDED_BY(mutex_);
  v1::HarvestStatesResponse current_ ABSL_GUARDED_BY(mutex_);  // being written
  int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;  // until half of the queue is taken
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::HarvestSummary summary_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_progress_ ABSL_GUARDED_BY(mutex_);
  StallWatch stall_ ABSL_GUARDED_BY(mutex_);
  StallWatch last_answers_ ABSL_GUARDED_BY(mutex_);  // when no document runs
  // Last: whoever tells of the version's end is done before anything else goes.
  std::shared_ptr<void> version_watch_;
};

void HarvestStream::ReadNext() {
  const size_t most_documents = static_cast<size_t>(context_.limits.harvest_documents_in_flight);
  if (reading_ || handling_ || reads_done_ || finished_ || full_ || fetches_ > 0 ||
      !failure_.ok() || in_flight_.size() >= most_documents ||
      bytes_in_flight_ >= context_.limits.harvest_buffered_bytes) {
    return;
  }
  reading_ = true;
  StartRead(&request_);
}

void HarvestStream::OnReadDone(bool ok) {
  bool have_plan = false;
  {
    Turn turn(*this);
    reading_ = false;
    reads_done_ = !ok;
    if (!ok || !failure_.ok()) return;
    handling_ = true;
    have_plan = have_plan_;
  }
  const bool is_options = request_.message_case() == v1::HarvestStatesRequest::kOptions;
  const bool is_document = request_.message_case() == v1::HarvestStatesRequest::kDocument;
  absl::Status status;
  if (have_plan && is_document) {
    TakeDocument(request_.document());
  } else if (!have_plan && is_options) {
    status = TakeOptions(request_.options());
  } else if (have_plan) {
    status = FieldError(is_options ? "options" : "document",
                        "after the options every message is a document");
  } else {
    status = FieldError("options", "expected options in the first message of the stream");
  }
  Turn turn(*this);
  handling_ = false;
  if (!status.ok()) Fail(status, Running::kEnd);
}

absl::Status HarvestStream::TakeOptions(const v1::HarvestOptions& options) {
  DS_ASSIGN_OR_RETURN(HarvestPlan plan,
                      ValidateHarvestOptions(options, *context_.models, context_.limits));
  DS_ASSIGN_OR_RETURN(lease_,
                      memory_->Open(plan.request_id, Sha256Hex(options.SerializeAsString())));
  {
    Turn turn(*this);
    ++fetches_;
  }
  const std::shared_ptr<const ModelSession> session = plan.session;
  const std::string id = plan.source_id;
  auto shared = std::make_shared<HarvestPlan>(std::move(plan));
  FetchSource(context_, session, id, [this, shared](absl::StatusOr<Source> source) {
    std::shared_ptr<void> watch;
    absl::Status status = source.status();
    if (source.ok()) {
      if (source->session != nullptr) shared->session = source->session;
      caller_.Follow(shared->session->scheduler->waker());
      // A stream that waits for its caller has no job that would be told.
      watch = shared->session->end->Watch([this](const absl::Status& reason) {
        Turn turn(*this);
        Fail(reason, Running::kEnd);
      });
      status = lease_->MakeWith(shared->session->weights->fingerprint,
                                shared->session->scheduler->numerics());
    }
    Turn turn(*this);
    --fetches_;
    version_watch_ = std::move(watch);
    if (status.ok()) {
      shared->source = *std::move(source);
      plan_ = shared;
      have_plan_ = true;
    } else {
      Fail(status, Running::kEnd);
    }
  });
  return absl::OkStatus();
}

void HarvestStream::TakeDocument(const v1::Document& document) {
  {
    Turn turn(*this);
    ++received_;
  }
  absl::Status status;
  absl::StatusOr<DocumentTask> task = ValidateDocument(document, *plan_, context_.limits);
  if (!task.ok()) {
    status = task.status();
  } else if (static_cast<int64_t>(document_ids_.size()) >=
             context_.limits.max_documents_per_stream) {
    status = QuotaError(
        "documents of a stream",
        StrCat("at most ", context_.limits.max_documents_per_stream, "; open another"), {});
  } else if (!document_ids_.insert(document.id()).second) {
    status = FieldError("document.id", "was used before in this stream");
  } else {
    {
      Turn turn(*this);
      const int64_t bytes = static_cast<int64_t>(document.ByteSizeLong()) +
                            static_cast<int64_t>(task->tokens.size() * sizeof(int32_t));
      in_flight_.emplace(document.id(), bytes);
      bytes_in_flight_ += bytes;
    }
    status = Launch(document, *std::move(task));
    if (!status.ok()) {
      Turn turn(*this);
      Settle(document.id(), status);
    }
    return;
  }
  Turn turn(*this);
  DocumentFailed(document.id(), status);
}

absl::Status HarvestStream::Launch(const v1::Document& document, DocumentTask task) {
  std::map<int64_t, std::string> known;
  if (!plan_->inline_tensors && !plan_->request_id.empty()) {
    DS_ASSIGN_OR_RETURN(known,
                        lease_->Recall(document.id(), Sha256Hex(document.SerializeAsString())));
  }
  if (known.empty()) return Submit(std::move(task));
  auto shared = std::make_shared<DocumentTask>(std::move(task));
  const bool taken = context_.executor->TrySubmit(
      [this, shared, known = std::move(known)] { AnswerFromMemory(std::move(*shared), known); });
  if (taken) return absl::OkStatus();
  return QuotaError("state store queue", "too many calls wait",
                    plan_->session->scheduler->options().retry_after);
}

void HarvestStream::AnswerFromMemory(DocumentTask task,
                                     const std::map<int64_t, std::string>& known) {
  const std::string id = task.id;
  const absl::StatusOr<bool> answered =
      WithoutExceptions([&] { return AnswerKnown(std::move(task), known); });
  if (answered.ok() && !*answered) return;
  Turn turn(*this);
  Settle(id, answered.status());
}

absl::StatusOr<bool> HarvestStream::AnswerKnown(DocumentTask task,
                                                const std::map<int64_t, std::string>& known) {
  std::vector<DocumentTask::Mark> to_make;
  for (const DocumentTask::Mark& mark : task.marks) {
    const auto id = known.find(mark.position);
    if (id != known.end()) {
      const absl::StatusOr<state::Description> description =
          context_.store->Describe(kTenant, id->second);
      if (description.ok() && !description->deleted) {
        v1::HarvestedState message;
        message.set_document_id(task.id);
        message.set_position(mark.position);
        *message.mutable_state() = ToMessage(*description);
        StateMade(std::move(message));
        continue;
      }
    }
    to_make.push_back(mark);
  }
  task.marks = std::move(to_make);
  if (task.marks.empty()) return true;
  DS_RETURN_IF_ERROR(Submit(std::move(task)));
  return false;
}

absl::Status HarvestStream::Submit(DocumentTask task) {
  CallTimes times = times_;
  times.arrival = context_.clock->Now();
  return plan_->session->scheduler->Submit(
      std::make_shared<HarvestJob>(context_, plan_, std::move(task), times, lease_, this));
}

bool HarvestStream::HasRoom() {
  Turn turn(*this);
  if (!stall_.Check({.has_room = !full_, .taken = taken_}, context_.clock->Now())) ReaderStalled();
  return !full_;
}

void HarvestStream::ReaderStalled() {
  gone_ = true;
  queue_.clear();
  Fail(QuotaError(
           "stream reader",
           StrCat("nothing was read for ", absl::FormatDuration(context_.limits.reader_stall)), {}),
       Running::kEnd);
}

bool HarvestStream::BeginVisit() {
  MutexLock lock(mutex_);
  if (finished_) return false;
  ++visits_;
  return true;
}

void HarvestStream::EndVisit(bool draining) {
  Turn turn(*this);
  --visits_;
  draining_ = draining_ || draining;
  const absl::Time now = context_.clock->Now();
  if (IsIdle() && !last_answers_.Check({.has_room = AllTold(), .taken = taken_}, now)) {
    ReaderStalled();
  }
  const absl::Duration limit = context_.limits.stream_silence;
  if (now - silent_since_ >= limit) {
    Fail(QuotaError("stream writer", StrCat("nothing was sent for ", absl::FormatDuration(limit)),
                    {}),
         Running::kGoOn);
  }
}

void HarvestStream::NoteSilence() {
  if (!reading_ || !IsIdle() || !AllTold()) {
    silent_since_ = absl::InfiniteFuture();
  } else if (silent_since_ == absl::InfiniteFuture()) {
    silent_since_ = context_.clock->Now();
  }
}

absl::Time HarvestStream::alarm() {
  Turn turn(*this);
  return stall_.alarm();
}

void HarvestStream::TokensRead(int64_t tokens) {
  Turn turn(*this);
  summary_.set_tokens(summary_.tokens() + tokens);
  Progress();
}

void HarvestStream::StateMade(v1::HarvestedState state) {
  Turn turn(*this);
  summary_.set_states(summary_.states() + 1);
  v1::HarvestStatesResponse message;
  *message.mutable_state() = std::move(state);
  Write(std::move(message));
}

void HarvestStream::DocumentDone(const DocumentTask& task, const absl::Status& status) {
  Turn turn(*this);
  Settle(task.id, status);
}

void HarvestStream::Settle(const std::string& document_id, const absl::Status& status) {
  const auto document = in_flight_.find(document_id);
  if (document != in_flight_.end()) {
    bytes_in_flight_ -= document->second;
    in_flight_.erase(document);
  }
  switch (status.code()) {
    case absl::StatusCode::kOk:
      summary_.set_documents(summary_.documents() + 1);
      Progress();
      break;
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
      Fail(status, Running::kEnd);
      break;
    case absl::StatusCode::kUnavailable:
      Fail(status, Running::kGoOn);
      break;
    default:
      DocumentFailed(document_id, status);
  }
}

void HarvestStream::DocumentFailed(const std::string& document_id, const absl::Status& status) {
  summary_.set_errors(summary_.errors() + 1);
  const grpc::Status answer = ToGrpcStatus(status);
  v1::HarvestStatesResponse message;
  v1::DocumentError* error = message.mutable_error();
  const size_t most = static_cast<size_t>(context_.limits.max_document_id_bytes);
  // An id that is too long is answered without: a part of it would name another document.
  if (document_id.size() <= most) error->set_document_id(document_id);
  error->set_code(answer.error_code());
  error->set_message(answer.error_message());
  Write(std::move(message));
}

void HarvestStream::Fail(const absl::Status& status, Running running) {
  if (failure_.ok()) failure_ = status;
  if (running == Running::kEnd) caller_.Gone();
}

void HarvestStream::Progress() {
  const absl::Time now = context_.clock->Now();
  if (full_ || now - last_progress_ < context_.limits.harvest_progress) return;
  last_progress_ = now;
  v1::HarvestStatesResponse message;
  v1::HarvestProgress* progress = message.mutable_progress();
  progress->set_documents_done(summary_.documents() + summary_.errors());
  progress->set_documents_received(received_);
  progress->set_tokens_done(summary_.tokens());
  Write(std::move(message));
}

void HarvestStream::Write(v1::HarvestStatesResponse message) {
  if (gone_) return;
  queued_bytes_ += static_cast<int64_t>(message.ByteSizeLong());
  queue_.push_back(std::move(message));
  full_ = full_ || queue_.size() >= static_cast<size_t>(context_.limits.stream_queue_messages) ||
          queued_bytes_ >= context_.limits.harvest_queue_bytes;
  WriteNext();
}

void HarvestStream::WriteNext() {
  if (writing_ || queue_.empty() || finished_) return;
  current_ = std::move(queue_.front());
  queue_.pop_front();
  writing_ = true;
  StartWrite(&current_);
}

void HarvestStream::OnWriteDone(bool ok) {
  bool wake = false;
  {
    Turn turn(*this);
    writing_ = false;
    ++taken_;
    queued_bytes_ -= static_cast<int64_t>(current_.ByteSizeLong());
    if (!ok) {
      gone_ = true;
      queue_.clear();
    }
    const size_t half = static_cast<size_t>(context_.limits.stream_queue_messages) / 2;
    const bool drained =
        queue_.size() <= half && queued_bytes_ <= context_.limits.harvest_queue_bytes / 2;
    if (full_ && (drained || queue_.empty())) {
      full_ = false;
      wake = true;
    }
    WriteNext();
  }
  if (wake) caller_.Wake();
}

void HarvestStream::OnCancel() {
  Turn turn(*this);
  gone_ = true;
  queue_.clear();
  const bool late = context_.clock->Now() >= times_.deadline;
  Fail(late ? absl::DeadlineExceededError("the deadline passed")
            : absl::CancelledError("the caller is gone"),
       Running::kEnd);
}

std::optional<absl::Status> HarvestStream::End() {
  if (finished_ || visits_ > 0 || !IsIdle()) return std::nullopt;
  if (failure_.ok()) {
    if (!reads_done_ && draining_) {
      failure_ = UnavailableError("the server is shutting down", absl::Seconds(1));
    } else if (!reads_done_) {
      return std::nullopt;
    }
  }
  if (failure_.ok()) {
    if (!have_plan_) {
      failure_ = FieldError("options", "expected options in the first message of the stream");
    } else if (!summarised_) {
      summarised_ = true;
      summary_.set_seconds(absl::ToDoubleSeconds(context_.clock->Now() - times_.arrival));
      v1::HarvestStatesResponse message;
      *message.mutable_summary() = summary_;
      Write(std::move(message));
    }
  }
  // States that were made are told even when the stream fails, unless nobody listens.
  if (!gone_ && (writing_ || !queue_.empty())) return std::nullopt;
  finished_ = true;
  lease_.reset();
  return failure_;
}

}  // namespace

Harvester::Harvester(const ServingContext& context)
    : context_(context), memory_(std::make_shared<HarvestMemory>(context.limits)) {}

Harvester::~Harvester() = default;

grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>* Harvester::Start(
    grpc::CallbackServerContext* context) {
  return new HarvestStream(context_, memory_, *context);
}

}  // namespace dreamstate::server
