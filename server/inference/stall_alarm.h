// Ends calls whose other side has stopped: calls back when nothing has moved for a while. For
// handlers that no scheduler's loop looks at.
#pragma once

#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "grpcpp/alarm.h"

namespace dreamstate::server {

// Thread-safe.
class StallAlarm {
 public:
  // `stalled` is called at most once, on a thread of gRPC, `limit` after the last move; it may be
  // running still when the alarm is destroyed.
  StallAlarm(absl::Duration limit, std::function<void()> stalled);
  ~StallAlarm();
  StallAlarm(const StallAlarm&) = delete;
  StallAlarm& operator=(const StallAlarm&) = delete;

  // Something moved: the time begins anew.
  void Moved();
  // No call from now on.
  void Stop();

 private:
  // Lives as long as gRPC's alarm may call.
  struct Watch : std::enable_shared_from_this<Watch> {
    Watch(absl::Duration limit_in, std::function<void()> stalled_in);
    void Arm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
    void Fired();

    const absl::Duration limit;
    const std::function<void()> stalled;
    Mutex mutex;
    absl::Time since ABSL_GUARDED_BY(mutex);
    bool stopped ABSL_GUARDED_BY(mutex) = false;
    std::unique_ptr<grpc::Alarm> alarm ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<Watch> watch_;
};

}  // namespace dreamstate::server
