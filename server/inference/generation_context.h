// What GenerateStates and EditState share beside what all handlers share.
#pragma once

#include "server/inference/diffusion_loop.h"
#include "server/inference/metrics.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Everything outlives the calls. A plain value.
struct GenerationContext {
  ServingContext serving;       // with a diffusion loop
  Executor* workers = nullptr;  // on which calls run from beginning to end, and wait
  Metrics* metrics = nullptr;
};

}  // namespace dreamstate::server
