// What a training run shows on /metrics. A new metric is one line in the constructor and one where
// it is set.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/training/run.h"
#include "prometheus/counter.h"
#include "prometheus/exposer.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace dreamstate::trainer {

// Thread-safe where the prometheus client is: it is read while it is set.
class TrainingMetrics {
 public:
  TrainingMetrics();

  // Serves http://ADDRESS/metrics while this lives. UNAVAILABLE when the address is taken.
  absl::Status Listen(const std::string& address);

  void OnStep(const training::RunProgress& progress);
  void OnValidation(const training::Validation& validation);
  void OnCheckpoint(int64_t step);
  void OnPublished(const absl::StatusOr<int64_t>& version);

  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

 private:
  prometheus::Gauge& AddGauge(const char* name, const char* help);
  prometheus::Counter& AddCounter(const char* name, const char* help,
                                  const std::map<std::string, std::string>& labels = {});

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Gauge &step_, &steps_, &tokens_, &loss_, &smoothed_loss_, &gradient_norm_,
      &learning_rate_, &tokens_per_second_, &seconds_left_, &data_wait_, &validation_loss_,
      &validation_accuracy_, &checkpoint_step_, &published_version_;
  prometheus::Counter &published_, &publish_failed_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace dreamstate::trainer
