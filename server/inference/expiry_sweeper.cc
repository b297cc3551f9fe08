#include "server/inference/expiry_sweeper.h"

#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

constexpr int kStatesPerBatch = 256;

}  // namespace

ExpirySweeper::ExpirySweeper(state::StateStore* store, absl::Duration interval)
    : store_(store), interval_(interval), thread_([this] { Run(); }) {}

ExpirySweeper::~ExpirySweeper() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

bool ExpirySweeper::closing() const {
  MutexLock lock(mutex_);
  return closing_;
}

void ExpirySweeper::Run() {
  while (!closing()) {
    Sweep();
    MutexLock lock(mutex_);
    if (!closing_) changed_.WaitFor(mutex_, interval_);
  }
}

void ExpirySweeper::Sweep() {
  while (!closing()) {
    const absl::StatusOr<int> deleted = store_->SweepExpired(kStatesPerBatch);
    if (!deleted.ok() && deleted.status().code() != last_code_) {
      spdlog::warn("cannot delete expired states: {}", deleted.status().ToString());
    }
    last_code_ = deleted.status().code();
    if (!deleted.ok() || *deleted == 0) return;
    spdlog::info("deleted {} expired states", *deleted);
  }
}

}  // namespace dreamstate::server
