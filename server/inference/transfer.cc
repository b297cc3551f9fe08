#include "server/inference/transfer.h"

#include <utility>

namespace dreamstate::server {

Transfer::Transfer(const ServingContext& context)
    : context_(context), moved_(context.clock->Now()) {}

void Transfer::Open() {
  self_ = shared_from_this();
  if (context_.streams != nullptr) context_.streams->Add(this);
}

void Transfer::Close() {
  if (context_.streams != nullptr) context_.streams->Remove(this);
  const std::shared_ptr<Transfer> self = std::move(self_);
}

void Transfer::Moved() {
  MutexLock lock(visit_mutex_);
  moved_ = context_.clock->Now();
}

bool Transfer::BeginVisit() {
  MutexLock lock(visit_mutex_);
  if (visits_++ == 0) visited_ = shared_from_this();
  return true;
}

void Transfer::EndVisit(bool draining) {
  std::shared_ptr<Transfer> self;
  absl::Duration silent;
  {
    MutexLock lock(visit_mutex_);
    self = visited_;
    if (--visits_ == 0) visited_.reset();
    silent = context_.clock->Now() - moved_;
  }
  Visited(silent, draining);
}

}  // namespace dreamstate::server
