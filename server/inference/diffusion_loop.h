// Runs state DiTs: one thread that takes what calls want made and makes what fits together in one
// batch, so that diffusion neither waits for the engine nor takes more processors than it was
// given.
//
// A batch holds states of one state DiT with the same mode, steps, solver and noise. It is filled
// up to the next power of two, so that a state is the same to the bit whenever it is made in a
// batch of that size; between sizes it is the same to rounding.
//
// Thread-safe. Callers wait: not for gRPC's threads or the engine's loop.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "server/inference/caller_watch.h"
#include "server/inference/metrics.h"
#include "server/inference/state_dit.h"

namespace dreamstate::server {

class DiffusionLoop {
 public:
  static constexpr size_t kMaxBatch = 32;

  // `threads` are for torch's operations. `metrics` outlives this.
  DiffusionLoop(int threads, Metrics* metrics);
  // Nobody waits any more.
  ~DiffusionLoop();
  DiffusionLoop(const DiffusionLoop&) = delete;
  DiffusionLoop& operator=(const DiffusionLoop&) = delete;

  // Whether the call that work is done for is still wanted: OK, or why not.
  using Wanted = std::function<absl::Status()>;

  // One state a request, at most kMaxBatch. `wanted` is asked, and options.on_step told, at each
  // step on the loop's thread; they must not block. Errors as StateGenerator::Generate, with the
  // request's index of this call; what `wanted` answers.
  absl::StatusOr<std::vector<state::State>> Generate(
      std::shared_ptr<const StateDit> dit, std::span<const diffusion::StateRequest> requests,
      const diffusion::GenerateOptions& options, const Wanted& wanted);
  // Runs `work` on the loop's thread; anything else that uses torch.
  absl::Status Run(const std::function<absl::Status()>& work);

 private:
  // One call's work; lives on its caller's stack until `done`.
  struct Item {
    std::shared_ptr<const StateDit> dit;
    std::span<const diffusion::StateRequest> requests;
    const diffusion::GenerateOptions* options = nullptr;
    const Wanted* wanted = nullptr;
    std::vector<state::State> states;
    const std::function<absl::Status()>* work = nullptr;  // instead of all of these
    absl::Status status;
    bool done = false;
  };

  void Wait(Item* item);
  void Loop(int threads);
  static bool FitsWith(const Item& first, const Item& other);
  std::vector<Item*> TakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunBatch(const std::vector<Item*>& batch);

  Metrics& metrics_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::deque<Item*> queue_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace dreamstate::server
