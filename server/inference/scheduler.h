// The batching loop of one served model version: takes every running job's next tokens and prefill
// chunks up to a token budget, runs one ragged forward, and hands the results back to the jobs.
// Jobs join and leave at any step.
//
// 1. Cancellation and deadline are looked at before a job starts and at each step. 2. A job's
// results do not depend on what else runs. 3. The waiting line is bounded: Submit refuses with
// RESOURCE_EXHAUSTED and a time to retry. 4. Every job that Submit took gets exactly one End, also
// when the scheduler is destroyed. Owns the engine, its slots, its thread pool and the loop thread.
// Thread-safe; no lock is held across compute.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/rwkv/weights.h"
#include "server/inference/admission.h"
#include "server/inference/job.h"
#include "server/inference/scheduler_observer.h"

namespace dreamstate::server {

struct SchedulerOptions {
  int threads = 1;              // of the compute pool, the loop included; >= 1
  int slots = 32;               // sequences that run at once; 1 .. 4096
  int max_step_tokens = 256;    // token budget of a step; >= slots
  int max_waiting = 256;        // interactive jobs that wait for slots
  int max_waiting_bulk = 1024;  // documents of harvests that wait for slots
  int max_bulk_slots =
      0;  // slots that harvests may hold together; 0 = half of the slots, at least one
  absl::Duration retry_after = absl::Seconds(1);  // what refused callers are told
};

class Scheduler {
 public:
  // Starts the loop. `observer` (may be null: nobody listens) and `clock` must outlive it.
  // INVALID_ARGUMENT naming the option.
  static absl::StatusOr<std::shared_ptr<Scheduler>> Create(
      std::shared_ptr<const rwkv::Weights> weights, const SchedulerOptions& options,
      SchedulerObserver* observer, const Clock& clock = Clock::Real());
  // As Stop.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  const SchedulerOptions& options() const { return options_; }
  // What computes, e.g. "bf16/avx512".
  const std::string& numerics() const { return numerics_; }

  // Puts a job into the line. RESOURCE_EXHAUSTED (queue full) or UNAVAILABLE (draining, stopped),
  // both with a time to retry: then the job was not taken and End is not called. INVALID_ARGUMENT
  // for a job that wants more slots than there are.
  absl::Status Submit(std::shared_ptr<Job> job);

  // Wakes the loop after a job was told something. May outlive the scheduler.
  std::shared_ptr<Waker> waker() const;

  // Refuses new jobs and ends waiting ones UNAVAILABLE; running ones go on. Does not block.
  void BeginDrain();
  // BeginDrain, then waits until nothing runs or `limit` has passed on the clock, or Stop is
  // called. True when nothing runs.
  bool Drain(absl::Duration limit);
  // Ends everything UNAVAILABLE and joins the loop. Idempotent.
  void Stop();

  // A consistent picture, taken between two steps.
  SchedulerSnapshot Snapshot() const;

 private:
  struct Impl;
  Scheduler(std::shared_ptr<Impl> impl, const SchedulerOptions& options, std::string numerics);

  SchedulerOptions options_;
  std::string numerics_;
  std::shared_ptr<Impl> impl_;  // shared with the loop thread
};

}  // namespace dreamstate::server
