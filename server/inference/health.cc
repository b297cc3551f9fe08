#include "server/inference/health.h"

#include "grpc/health/v1/health.pb.h"
#include "server/inference/resource_names.h"

namespace dreamstate::server {

void EnableHealthService() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::health::v1::HealthCheckRequest::descriptor();
}

Health::Health(const std::vector<std::string>& models) {
  known_.insert(models.begin(), models.end());
}

void Health::Attach(grpc::HealthCheckServiceInterface* service) {
  MutexLock lock(mutex_);
  service_ = service;
  service_->SetServingStatus("liveness", true);
  Publish();
}

void Health::SetServing(const std::string& model, bool serving) {
  MutexLock lock(mutex_);
  known_.insert(model);
  if (serving) {
    serving_.insert(model);
  } else {
    serving_.erase(model);
  }
  Publish();
}

void Health::BeginDrain() {
  MutexLock lock(mutex_);
  draining_ = true;
  Publish();
}

void Health::Publish() {
  if (service_ == nullptr) return;
  for (const std::string& model : known_) {
    service_->SetServingStatus(ModelResourceName(model), !draining_ && serving_.contains(model));
  }
  service_->SetServingStatus("", !draining_ && !serving_.empty());
}

}  // namespace dreamstate::server
