#include "server/inference/state_download.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/base/hash.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/layouts.h"
#include "server/inference/errors.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"
#include "server/inference/transfer.h"
#include "server/inference/unary_call.h"
#include "server/inference/upload_validation.h"

namespace dreamstate::server {
namespace {

constexpr size_t kMaxChunkBytes = size_t{1} << 20;
// Of a message beside its chunk.
constexpr size_t kMessageBytes = 64;

// What is asked for.
struct DownloadPlan {
  std::string id;
  state::Layout layout = state::Layout::kRecord;
  std::optional<tensors::DType> dtype;
};

absl::StatusOr<DownloadPlan> Validate(const v1::DownloadStateRequest& request) {
  DownloadPlan plan;
  DS_ASSIGN_OR_RETURN(plan.id, ParseStateName("name", request.name()));
  DS_ASSIGN_OR_RETURN(const std::optional<state::Layout> layout,
                      FromMessage("layout", request.layout()));
  plan.layout = layout.value_or(state::Layout::kRecord);
  DS_ASSIGN_OR_RETURN(plan.dtype, FromMessage("dtype", request.dtype()));
  if (plan.layout == state::Layout::kRecord &&
      plan.dtype.value_or(tensors::DType::kF32) != tensors::DType::kF32) {
    return FieldError("dtype", "expected FLOAT32 or none for layout DREAMSTATE");
  }
  return plan;
}

// One DownloadState stream: work on the executor, then writes one after another; only visits may
// come between.
class Download final : public grpc::ServerWriteReactor<v1::DownloadStateResponse>, public Transfer {
 public:
  Download(const ServingContext& context, Metrics* metrics, grpc::CallbackServerContext* call)
      : Transfer(context),
        metrics_(*metrics),
        call_(*call),
        chunk_bytes_(
            std::min(kMaxChunkBytes,
                     static_cast<size_t>(context.limits.max_message_bytes) - kMessageBytes)) {}

  void Begin(const v1::DownloadStateRequest& request, Places& places) {
    Open();
    if (absl::Status status = Submit(request, places); !status.ok()) End(status);
  }

  void OnWriteDone(bool ok) override {
    std::optional<absl::Status> end;
    {
      MutexLock lock(mutex_);
      if (ended_) return;
      if (!ok) {
        end = absl::CancelledError("the caller is gone");
      } else if (sent_ == file_.size()) {
        end = absl::OkStatus();
      } else {
        Moved();
        response_.set_chunk(file_.substr(sent_, chunk_bytes_));
        sent_ += response_.chunk().size();
        StartWrite(&response_);
      }
    }
    if (end) End(*end);
  }

  void OnDone() override {
    {
      MutexLock lock(mutex_);
      place_.reset();
    }
    Close();
  }

 private:
  void Visited(absl::Duration silent, bool /*draining*/) override {
    const absl::Duration limit = context_.limits.reader_stall;
    {
      MutexLock lock(mutex_);
      if (!sending_ || silent < limit) return;
      if (ended_) {
        // What was written is held until it is read. The call lives until OnDone returns.
        if (place_.use_count() > 0) call_.TryCancel();
        return;
      }
    }
    Moved();
    End(QuotaError("stream reader", StrCat("nothing was read for ", absl::FormatDuration(limit)),
                   {}));
  }

  absl::Status Submit(const v1::DownloadStateRequest& request, Places& places) {
    DS_ASSIGN_OR_RETURN(DownloadPlan plan, Validate(request));
    DS_ASSIGN_OR_RETURN(place_, places.Take());
    const bool taken = context_.executor->TrySubmit(
        [download = std::static_pointer_cast<Download>(shared_from_this()),
         plan = std::move(plan)] {
          absl::Status status = CheckWanted(download->call_);
          if (status.ok()) status = WithoutExceptions([&] { return download->Prepare(plan); });
          if (!status.ok()) download->End(status);
        });
    return taken ? absl::OkStatus() : ExecutorFull();
  }

  // On the executor: makes the file and sends the header.
  absl::Status Prepare(const DownloadPlan& plan) {
    DS_ASSIGN_OR_RETURN(
        const std::shared_ptr<const state::Record> record,
        Measured(metrics_, "get", [&] { return context_.store->Get(kTenant, plan.id); }));
    DS_ASSIGN_OR_RETURN(const state::Description description, Measured(metrics_, "describe", [&] {
                          return context_.store->Describe(kTenant, plan.id);
                        }));
    DS_ASSIGN_OR_RETURN(std::string file, state::WriteStateFile(*record, plan.layout, plan.dtype));
    v1::DownloadHeader* const header = response_.mutable_header();
    *header->mutable_state() = ToMessage(description);
    header->set_bytes(static_cast<int64_t>(file.size()));
    header->set_sha256(Sha256Hex(file));
    header->set_file_name(StrCat(plan.id, state::LayoutEnding(plan.layout)));
    Moved();
    MutexLock lock(mutex_);
    sending_ = true;
    file_ = std::move(file);
    StartWrite(&response_);
    return absl::OkStatus();
  }

  // Finishes the call, once, and lets go of the file. A reader that has stopped keeps the last
  // message, and with it its place, until it has gone.
  void End(const absl::Status& status) {
    {
      MutexLock lock(mutex_);
      if (std::exchange(ended_, true)) return;
      std::string().swap(file_);
      if (status.ok()) place_.reset();
    }
    Finish(ToGrpcStatus(status));
  }

  Metrics& metrics_;
  grpc::CallbackServerContext& call_;
  const size_t chunk_bytes_;
  v1::DownloadStateResponse response_;  // being written
  Mutex mutex_;
  Places::Place place_;  // while a message is held
  std::string file_ ABSL_GUARDED_BY(mutex_);
  size_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::DownloadStateResponse>* StateDownloads::Start(
    grpc::CallbackServerContext* call, const v1::DownloadStateRequest& request) {
  const auto download = std::make_shared<Download>(context_, metrics_, call);
  download->Begin(request, places_);
  return download.get();
}

}  // namespace dreamstate::server
