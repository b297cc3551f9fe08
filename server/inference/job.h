// A job is one request's work on the engine, as a small state machine that the scheduler's loop
// drives:
//   Submit → waiting → Start → { Poll → Offer → Fill → (forward) → Read }* → End
// Start, Poll, Offer, Fill, Read, done and End are called on the loop thread only, End exactly once
// and last. The loop holds no lock while it calls a job. What other threads tell a job (cancel, a
// store's answer) goes through the job's own small locked or atomic fields, followed by
// Waker::Wake.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/rwkv/engine.h"
#include "server/inference/step_plan.h"

namespace dreamstate::server {

class Job;
class SchedulerObserver;

// Set by a handler when its caller is gone, read by its job. Shared by both.
using Cancellation = std::atomic<bool>;

// Tells the loop to look again. Thread-safe; may outlive the scheduler (then it does nothing).
class Waker {
 public:
  virtual ~Waker() = default;
  virtual void Wake() = 0;
};

// Collects what a job could read in the next step.
class WorkList {
 public:
  // `tag` is the job's own name for the sequence and comes back in Fill and Read.
  void Add(int tag, WorkKind kind, int64_t tokens);

 private:
  friend class Scheduler;
  struct Entry {
    Job* job;
    int tag;
  };
  Job* job_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<WorkOffer> offers_;
};

// What an admitted job works with. Lives as long as the job runs; loop thread only.
class JobContext {
 public:
  virtual ~JobContext() = default;
  virtual rwkv::Engine& engine() = 0;
  virtual SchedulerObserver& observer() = 0;
  virtual absl::Time now() const = 0;
  // Slots of this job, as many as it asked for, minus those it released. Contents are whatever was
  // there before.
  virtual std::span<const int> slots() const = 0;
  // Gives a slot back before the job ends. The job must not name it again.
  virtual void ReleaseSlot(int slot) = 0;
  // Buffers for the wants of one slot, valid until another step reads into the slot: [V], [D].
  virtual std::span<float> logits(int slot) = 0;
  virtual std::span<float> last_hidden(int slot) = 0;
};

// Who waits in which line: interactive jobs are answers that somebody waits for; bulk jobs are
// documents of a harvest, which may hold only a share of the slots.
enum class JobClass { kInteractive, kBulk };

class Job {
 public:
  virtual ~Job() = default;

  // Constant over a job's life; any thread.
  virtual std::string_view kind() const = 0;  // "decode", "score", "harvest"
  virtual JobClass job_class() const { return JobClass::kInteractive; }
  virtual int slots_wanted() const { return 1; }
  virtual absl::Time arrival() const = 0;
  virtual absl::Time deadline() const { return absl::InfiniteFuture(); }
  // Whether the caller is gone; looked at before work starts and at each step. Any thread.
  virtual bool cancelled() const = 0;

  // Not OK once the served version that the job works on was told to end; End(that) follows. Any
  // thread.
  virtual absl::Status version_end() const { return absl::OkStatus(); }

  // Slots are granted. `context` is valid until End.
  virtual void Start(JobContext& context) = 0;
  // At every turn of the loop, before done() and failure() are asked: where a job looks at what
  // other threads told it.
  virtual void Poll() {}
  // Says what could be read now; nothing when the job is paused, or waits for something other than
  // the engine.
  virtual void Offer(WorkList& work) = 0;
  // Describes the reading of the next `tokens` (1 .. offered) tokens of sequence `tag`.
  virtual void Fill(int tag, int tokens, rwkv::Segment* segment) = 0;
  // The forward of what Fill described is done.
  virtual void Read(int tag, int tokens) = 0;
  // True when there is nothing left to do; End(OK) follows.
  virtual bool done() const = 0;
  // When the job wants to be looked at although nobody wakes it (a stalled reader's limit).
  virtual absl::Time alarm() const { return absl::InfiniteFuture(); }
  // Not OK when the job must end by its own decision; End(that) follows.
  virtual absl::Status failure() const { return absl::OkStatus(); }
  // The end: OK after done(), otherwise the reason (CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE,
  // failure()). Slots are taken back after it. May come without Start.
  virtual void End(const absl::Status& status) = 0;
};

}  // namespace dreamstate::server
