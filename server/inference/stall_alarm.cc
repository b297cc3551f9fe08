#include "server/inference/stall_alarm.h"

#include <utility>

#include "absl/time/clock.h"

namespace dreamstate::server {

StallAlarm::Watch::Watch(absl::Duration limit_in, std::function<void()> stalled_in)
    : limit(limit_in), stalled(std::move(stalled_in)), since(absl::Now()) {}

void StallAlarm::Watch::Arm() {
  // One alarm of gRPC is for one time; this may run in the call of the one before.
  alarm = std::make_unique<grpc::Alarm>();
  alarm->Set(absl::ToChronoTime(since + limit), [watch = shared_from_this()](bool fired) {
    if (fired) watch->Fired();
  });
}

void StallAlarm::Watch::Fired() {
  {
    MutexLock lock(mutex);
    if (stopped) return;
    if (absl::Now() < since + limit) {
      Arm();
      return;
    }
    stopped = true;
  }
  stalled();
}

StallAlarm::StallAlarm(absl::Duration limit, std::function<void()> stalled)
    : watch_(std::make_shared<Watch>(limit, std::move(stalled))) {
  MutexLock lock(watch_->mutex);
  watch_->Arm();
}

StallAlarm::~StallAlarm() { Stop(); }

void StallAlarm::Moved() {
  MutexLock lock(watch_->mutex);
  watch_->since = absl::Now();
}

void StallAlarm::Stop() {
  std::unique_ptr<grpc::Alarm> alarm;
  MutexLock lock(watch_->mutex);
  watch_->stopped = true;
  alarm = std::move(watch_->alarm);
}

}  // namespace dreamstate::server
