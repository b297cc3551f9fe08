#include "server/inference/state_upload.h"

#include <optional>
#include <string>
#include <utility>

#include "core/base/hash.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/errors.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"
#include "server/inference/transfer.h"
#include "server/inference/unary_call.h"
#include "server/inference/upload_validation.h"

namespace dreamstate::server {
namespace {

constexpr size_t kMaxChunkBytes = size_t{1} << 20;

// While the server drains, an upload that has been silent for so long does not hold it up.
constexpr absl::Duration kDrainSilence = absl::Seconds(1);

// One UploadState stream. Events come one after another: reads, then work on the executor; only
// visits may come between reads, and whoever stops the receiving ends the call.
class Upload final : public grpc::ServerReadReactor<v1::UploadStateRequest>, public Transfer {
 public:
  Upload(const ServingContext& context, Metrics* metrics, std::shared_ptr<RequestMemory> memory,
         Places* places, grpc::CallbackServerContext* call, v1::State* response)
      : Transfer(context),
        metrics_(*metrics),
        memory_(std::move(memory)),
        places_(*places),
        call_(*call),
        response_(*response) {}

  void Begin() {
    Open();
    ReadNext();
  }

  void OnReadDone(bool ok) override {
    Moved();
    absl::Status status;
    if (ok) {
      status = WithoutExceptions([&] { return Take(); });
      if (status.ok()) {
        ReadNext();
        return;
      }
    }
    // From here on nothing but this and what it submits ends the call.
    if (!StopReceiving()) return;
    if (!ok) status = WholeFile();
    if (!status.ok()) End(status);
  }

  void OnCancel() override {
    gone_->store(true, std::memory_order_relaxed);
    std::optional<RequestMemory::Key> waits;
    {
      MutexLock lock(mutex_);
      waits = waits_;
    }
    if (waits) memory_->Withdraw(*waits, *gone_, absl::CancelledError("the caller is gone"));
  }

  void OnDone() override { Close(); }

 private:
  void Visited(absl::Duration silent, bool draining) override {
    const absl::Duration limit = context_.limits.stream_silence;
    if (draining && silent >= kDrainSilence) {
      if (StopReceiving()) End(UnavailableError("the server is shutting down", absl::Seconds(1)));
    } else if (silent >= limit && StopReceiving()) {
      End(QuotaError("stream writer", StrCat("nothing was sent for ", absl::FormatDuration(limit)),
                     {}));
    }
  }

  void ReadNext() {
    MutexLock lock(mutex_);
    if (receiving_) StartRead(&request_);
  }

  std::shared_ptr<Upload> Self() { return std::static_pointer_cast<Upload>(shared_from_this()); }

  // What was read.
  absl::Status Take() {
    switch (request_.message_case()) {
      case v1::UploadStateRequest::kOptions:
        if (plan_) return FieldError("options", "after the options every message is a chunk");
        return TakeOptions(request_.options());
      case v1::UploadStateRequest::kChunk:
        if (!plan_) break;
        return TakeChunk(request_.chunk());
      default:
        if (plan_) return FieldError("chunk", "after the options every message is a chunk");
    }
    return FieldError("options", "expected options in the first message of the stream");
  }

  absl::Status TakeOptions(const v1::UploadOptions& options) {
    DS_ASSIGN_OR_RETURN(UploadPlan plan,
                        ValidateUploadOptions(options, *context_.models, context_.limits));
    DS_ASSIGN_OR_RETURN(place_, places_.Take());
    options_sha256_ = Sha256Hex(options.SerializeAsString());
    // Memory that is not written to is not taken.
    file_.reserve(static_cast<size_t>(plan.most_bytes));
    plan_ = std::move(plan);
    return absl::OkStatus();
  }

  absl::Status TakeChunk(const std::string& chunk) {
    if (chunk.empty() || chunk.size() > kMaxChunkBytes) {
      return FieldError("chunk",
                        StrCat("expected 1 to ", kMaxChunkBytes, " bytes, found ", chunk.size()));
    }
    if (file_.size() + chunk.size() > static_cast<size_t>(plan_->most_bytes)) {
      return FieldError("chunk",
                        StrCat("expected a file of at most ", plan_->most_bytes,
                               " bytes, as states of models/", plan_->model, " have, found more"));
    }
    file_ += chunk;
    return absl::OkStatus();
  }

  absl::Status WholeFile() {
    if (!plan_) return FieldError("options", "expected options in the first message of the stream");
    if (file_.empty()) return FieldError("chunk", "expected a file, found no bytes");
    if (!Submit([this] { return Identify(); })) return ExecutorFull();
    return absl::OkStatus();
  }

  // Runs `step` on the executor; the call ends with its error. False when the executor is full.
  template <typename Step>
  bool Submit(Step step) {
    return context_.executor->TrySubmit([upload = Self(), step = std::move(step)] {
      absl::Status status = CheckWanted(upload->call_);
      if (status.ok()) status = WithoutExceptions(step);
      if (!status.ok()) upload->End(status);
    });
  }

  // Looks whether the same upload was answered before.
  absl::Status Identify() {
    sha256_ = Sha256Hex(file_);
    const RequestMemory::Key key = {
        .tenant = kTenant, .method = "UploadState", .request_id = plan_->request_id};
    {
      MutexLock lock(mutex_);
      waits_ = key;
    }
    memory_->Enter(
        key, Sha256Hex(StrCat(options_sha256_, sha256_)),
        [upload = Self()](absl::StatusOr<RequestMemory::Admission> admission) {
          if (!admission.ok()) {
            upload->End(admission.status());
          } else if (admission->turn == nullptr) {
            const bool whole = upload->response_.ParseFromString(admission->answer);
            upload->End(whole ? absl::OkStatus() : absl::InternalError("the answer was not kept"));
          } else {
            auto store = [raw = upload.get(), turn = admission->turn] { return raw->Store(*turn); };
            if (!upload->Submit(std::move(store))) upload->End(ExecutorFull());
          }
        },
        gone_);
    return absl::OkStatus();
  }

  absl::Status Store(RequestMemory::Turn& turn) {
    DS_ASSIGN_OR_RETURN(state::Record record, RecordOfUpload(*plan_, file_, sha256_));
    std::string().swap(file_);
    DS_ASSIGN_OR_RETURN(const state::Description description, Measured(metrics_, "put", [&] {
                          return context_.store->Put(kTenant, std::move(record),
                                                     plan_->annotations);
                        }));
    response_ = ToMessage(description);
    turn.Remember(response_.SerializeAsString());
    End(absl::OkStatus());
    return absl::OkStatus();
  }

  // False when the stream was ended for its silence.
  bool StopReceiving() {
    MutexLock lock(mutex_);
    return std::exchange(receiving_, false);
  }

  // Last, once, after receiving has stopped.
  void End(const absl::Status& status) { Finish(ToGrpcStatus(status)); }

  Metrics& metrics_;
  const std::shared_ptr<RequestMemory> memory_;
  Places& places_;
  const grpc::CallbackServerContext& call_;
  v1::State& response_;
  v1::UploadStateRequest request_;
  std::optional<UploadPlan> plan_;
  std::string options_sha256_;
  std::string file_;
  std::string sha256_;
  Places::Place place_;
  Mutex mutex_;
  bool receiving_ ABSL_GUARDED_BY(mutex_) = true;
  std::optional<RequestMemory::Key> waits_ ABSL_GUARDED_BY(mutex_);  // for the turn of
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace

grpc::ServerReadReactor<v1::UploadStateRequest>* StateUploads::Start(
    grpc::CallbackServerContext* call, v1::State* response) {
  const auto upload =
      std::make_shared<Upload>(context_, metrics_, memory_, &places_, call, response);
  upload->Begin();
  return upload.get();
}

}  // namespace dreamstate::server
