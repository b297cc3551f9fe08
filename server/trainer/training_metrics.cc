#include "server/trainer/training_metrics.h"

#include <exception>
#include <string>
#include <vector>

#include "core/base/address.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::trainer {

prometheus::Gauge& TrainingMetrics::AddGauge(const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_).Add({});
}

prometheus::Counter& TrainingMetrics::AddCounter(const char* name, const char* help,
                                                 const std::map<std::string, std::string>& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_).Add(labels);
}

TrainingMetrics::TrainingMetrics()
    : step_(AddGauge("dreamstate_training_step", "Optimiser steps done")),
      steps_(AddGauge("dreamstate_training_steps", "Optimiser steps of the whole run")),
      tokens_(AddGauge("dreamstate_training_tokens", "Tokens read, resumed parts included")),
      loss_(AddGauge("dreamstate_training_loss_nats", "Mean loss a token of the last step")),
      smoothed_loss_(AddGauge("dreamstate_training_smoothed_loss_nats",
                              "Mean loss a token, averaged over about fifty steps")),
      gradient_norm_(AddGauge("dreamstate_training_gradient_norm",
                              "Global gradient norm of the last step, before clipping")),
      learning_rate_(AddGauge("dreamstate_training_learning_rate", "Of the last step")),
      tokens_per_second_(
          AddGauge("dreamstate_training_tokens_per_second", "Over the last ten steps or so")),
      seconds_left_(AddGauge("dreamstate_training_left_seconds", "Estimated time to the end")),
      data_wait_(AddGauge("dreamstate_training_data_wait_seconds",
                          "Time that this process has waited for batches")),
      validation_loss_(AddGauge("dreamstate_training_validation_loss_nats",
                                "Mean loss a token of the last validation")),
      validation_accuracy_(AddGauge("dreamstate_training_validation_accuracy",
                                    "Share of tokens guessed right in the last validation")),
      checkpoint_step_(
          AddGauge("dreamstate_training_checkpoint_step", "Step of the newest checkpoint")),
      published_version_(
          AddGauge("dreamstate_training_published_version", "Newest version that was published")),
      published_(AddCounter("dreamstate_training_publications_total", "Publications by outcome",
                            {{"outcome", "published"}})),
      publish_failed_(AddCounter("dreamstate_training_publications_total",
                                 "Publications by outcome", {{"outcome", "failed"}})) {}

absl::Status TrainingMetrics::Listen(const std::string& address) {
  DS_RETURN_IF_ERROR(CheckAddress("--admin-address", address));
  try {
    // A client that sends nothing holds a thread until the timeout.
    exposer_ = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", "4",
                                 "request_timeout_ms", "2000", "enable_keep_alive", "no"});
    exposer_->RegisterCollectable(registry_);
    return absl::OkStatus();
  } catch (const std::exception&) {  // CivetException
    return absl::UnavailableError(StrCat("cannot listen on --admin-address ", address,
                                         ": in use or not an address of this machine"));
  }
}

void TrainingMetrics::OnStep(const training::RunProgress& progress) {
  step_.Set(static_cast<double>(progress.step));
  steps_.Set(static_cast<double>(progress.steps));
  tokens_.Set(static_cast<double>(progress.tokens));
  loss_.Set(progress.last.loss);
  smoothed_loss_.Set(progress.smoothed_loss);
  gradient_norm_.Set(progress.last.grad_norm);
  learning_rate_.Set(progress.lr);
  tokens_per_second_.Set(progress.tokens_per_second);
  seconds_left_.Set(progress.seconds_left);
  data_wait_.Set(progress.data_wait_seconds);
}

void TrainingMetrics::OnValidation(const training::Validation& validation) {
  validation_loss_.Set(validation.loss);
  validation_accuracy_.Set(validation.accuracy);
}

void TrainingMetrics::OnCheckpoint(int64_t step) {
  checkpoint_step_.Set(static_cast<double>(step));
}

void TrainingMetrics::OnPublished(const absl::StatusOr<int64_t>& version) {
  if (!version.ok()) {
    publish_failed_.Increment();
    return;
  }
  published_.Increment();
  published_version_.Set(static_cast<double>(*version));
}

}  // namespace dreamstate::trainer
