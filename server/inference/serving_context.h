// What request handlers share.
#pragma once

#include "core/base/clock.h"
#include "core/state/prefix_trie.h"
#include "core/state/store.h"
#include "server/inference/executor.h"
#include "server/inference/model_session.h"
#include "server/inference/open_streams.h"
#include "server/inference/request_limits.h"

namespace dreamstate::server {

class DiffusionLoop;

// Everything outlives the handlers and every job that they started. A plain value.
struct ServingContext {
  const ModelDirectory* models = nullptr;
  state::StateStore* store = nullptr;
  Executor* executor = nullptr;           // for the store
  OpenStreams* streams = nullptr;         // null: nobody visits them
  state::PrefixTrie* prefixes = nullptr;  // null: every prompt is read whole
  DiffusionLoop* diffusion = nullptr;     // null: nothing is generated, and no energy is told
  const Clock* clock = &Clock::Real();
  RequestLimits limits;
};

}  // namespace dreamstate::server
