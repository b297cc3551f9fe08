// Runs a bundle's probe tokens through its scheduler, the way that requests run, and compares the
// loss with the publisher's.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/rwkv/weights.h"
#include "server/inference/scheduler.h"

namespace dreamstate::server {

// Nats of the probe tokens. Waits until the scheduler has run them; UNAVAILABLE when it stops
// meanwhile, FAILED_PRECONDITION for a token that the vocabulary lacks.
absl::StatusOr<double> MeasureSelfTest(const repository::SelfTest& self_test, int vocab,
                                       Scheduler& scheduler);

// How far the measured loss may be from the expected one; NOT_FOUND when the manifest names none
// for the format. For int8 a manifest from before it may name none: four times that of bf16 then.
absl::StatusOr<double> SelfTestTolerance(const repository::SelfTest& self_test,
                                         rwkv::WeightFormat format);

// DATA_LOSS saying expected, measured and tolerance when they do not fit or the loss is not finite.
absl::Status CheckSelfTest(const repository::SelfTest& self_test, double measured_nll,
                           double tolerance);

}  // namespace dreamstate::server
