// Who may start: pure functions over a snapshot of the scheduler, shared by the loop and the tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/inference/job.h"

namespace dreamstate::server {

struct WaitingJob {
  uint64_t number;  // order of arrival
  JobClass job_class;
  int slots;  // wanted
};

struct RunningJob {
  uint64_t number;
  JobClass job_class;
  std::vector<int> slots;  // held
};

struct SchedulerSnapshot {
  int slots = 0;           // in all
  int max_bulk_slots = 0;  // that bulk jobs may hold together
  int max_waiting = 0;     // interactive jobs that may wait
  int max_waiting_bulk = 0;
  bool draining = false;
  std::vector<int> free_slots;
  std::vector<WaitingJob> waiting;  // in order of arrival
  std::vector<RunningJob> running;
};

// The jobs to start now: indices into `waiting`, ascending. In order of arrival: a job that does
// not fit holds back all that came later, so that slots gather for it and nobody is overtaken for
// ever. The one exception is a bulk job that waits for the share of bulk jobs: interactive jobs
// pass it. None while draining.
std::vector<size_t> Admit(const SchedulerSnapshot& snapshot);

// INTERNAL naming the first broken promise: every slot is free or held by exactly one job; no job
// holds a slot that does not exist; bulk jobs keep to their share; the queues keep to their bounds;
// waiting jobs are in order and not running.
absl::Status CheckInvariants(const SchedulerSnapshot& snapshot);

}  // namespace dreamstate::server
