// Sees every call of our own services begin and end, in one place: metrics by method and code, and
// how many still run. Thread-safe. Outlives the server that it is attached to.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "grpcpp/support/server_interceptor.h"
#include "server/inference/metrics.h"

namespace dreamstate::server {

class CallTracker {
 public:
  // `metrics` outlives this.
  explicit CallTracker(Metrics* metrics);

  // For ServerBuilder::experimental().SetInterceptorCreators. The factory keeps a pointer to this.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeInterceptors();

  // Waits until no call of our services runs or `limit` has passed. True when none runs.
  bool WaitIdle(absl::Duration limit);

 private:
  class Interceptor;
  class Factory;

  void Begin(const std::string& method);
  void End(const std::string& method, grpc::StatusCode code, absl::Duration duration);

  Metrics* const metrics_;
  std::set<std::string, std::less<>>
      methods_;  // constant: labels come from here, never from a peer
  Mutex mutex_;
  ConditionVariable changed_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace dreamstate::server
