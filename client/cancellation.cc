#include "client/cancellation.h"

#include <chrono>

#include "grpcpp/client_context.h"

namespace dreamstate::client {

void Cancellation::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.notify_all();
}

bool Cancellation::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

bool Cancellation::WaitFor(absl::Duration duration) {
  std::unique_lock lock(mutex_);
  // A steady clock, so that a changed wall clock does not stretch the wait.
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(duration),
                           [this] { return cancelled_; });
}

Cancellation::Attachment::Attachment(Cancellation* cancellation, grpc::ClientContext* context)
    : cancellation_(cancellation), context_(context) {
  if (cancellation_ == nullptr) return;
  const std::lock_guard lock(cancellation_->mutex_);
  cancellation_->contexts_.insert(context_);
  if (cancellation_->cancelled_) context_->TryCancel();
}

Cancellation::Attachment::~Attachment() {
  if (cancellation_ == nullptr) return;
  const std::lock_guard lock(cancellation_->mutex_);
  cancellation_->contexts_.erase(context_);
}

}  // namespace dreamstate::client
