// grpc.health.v1 through gRPC's own service. Names: "" serves while at least one model does,
// "liveness" while the process lives, one name a model ("models/x"). Once draining, all but
// "liveness" are NOT_SERVING for good.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "core/base/mutex.h"
#include "grpcpp/health_check_service_interface.h"

namespace dreamstate::server {

// Before the server is built: switches the service on, and keeps the descriptor of health.proto in
// the program, so that reflection clients can see the service.
void EnableHealthService();

// Thread-safe.
class Health {
 public:
  // Names in `models` answer NOT_SERVING until they serve, instead of NOT_FOUND.
  explicit Health(const std::vector<std::string>& models);
  // The built server's service; what was said before is passed on. Outlives this.
  void Attach(grpc::HealthCheckServiceInterface* service);

  void SetServing(const std::string& model, bool serving);
  void BeginDrain();

 private:
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  grpc::HealthCheckServiceInterface* service_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::string> known_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> serving_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dreamstate::server
