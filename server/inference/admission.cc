#include "server/inference/admission.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

int BulkSlotsHeld(const SchedulerSnapshot& snapshot) {
  int held = 0;
  for (const RunningJob& job : snapshot.running) {
    if (job.job_class == JobClass::kBulk) held += static_cast<int>(job.slots.size());
  }
  return held;
}

int CountWaiting(const SchedulerSnapshot& snapshot, JobClass job_class) {
  return static_cast<int>(
      std::count_if(snapshot.waiting.begin(), snapshot.waiting.end(),
                    [&](const WaitingJob& job) { return job.job_class == job_class; }));
}

absl::Status Broken(std::string_view what) {
  return absl::InternalError(StrCat("scheduler invariant: ", what));
}

}  // namespace

std::vector<size_t> Admit(const SchedulerSnapshot& snapshot) {
  std::vector<size_t> admitted;
  if (snapshot.draining) return admitted;
  int free = static_cast<int>(snapshot.free_slots.size());
  int bulk = BulkSlotsHeld(snapshot);
  bool bulk_waits = false;
  for (size_t i = 0; i < snapshot.waiting.size(); ++i) {
    const WaitingJob& job = snapshot.waiting[i];
    const bool is_bulk = job.job_class == JobClass::kBulk;
    if (is_bulk && (bulk_waits || bulk + job.slots > snapshot.max_bulk_slots)) {
      bulk_waits = true;
      continue;
    }
    if (job.slots > free) break;
    admitted.push_back(i);
    free -= job.slots;
    if (is_bulk) bulk += job.slots;
  }
  return admitted;
}

absl::Status CheckInvariants(const SchedulerSnapshot& snapshot) {
  std::map<int, int> owners;
  const auto own = [&](int slot) -> absl::Status {
    if (slot < 0 || slot >= snapshot.slots) return Broken(StrCat("slot ", slot, " does not exist"));
    if (++owners[slot] > 1) return Broken(StrCat("slot ", slot, " has two owners"));
    return absl::OkStatus();
  };
  for (const int slot : snapshot.free_slots) {
    if (absl::Status status = own(slot); !status.ok()) return status;
  }
  std::set<uint64_t> numbers;
  for (const RunningJob& job : snapshot.running) {
    if (!numbers.insert(job.number).second) {
      return Broken(StrCat("job ", job.number, " runs twice"));
    }
    for (const int slot : job.slots) {
      if (absl::Status status = own(slot); !status.ok()) return status;
    }
  }
  if (static_cast<int>(owners.size()) != snapshot.slots) {
    return Broken(StrCat(snapshot.slots - static_cast<int>(owners.size()), " slots are lost"));
  }
  if (BulkSlotsHeld(snapshot) > snapshot.max_bulk_slots) {
    return Broken("bulk jobs hold more than their share");
  }
  if (CountWaiting(snapshot, JobClass::kInteractive) > snapshot.max_waiting ||
      CountWaiting(snapshot, JobClass::kBulk) > snapshot.max_waiting_bulk) {
    return Broken("more jobs wait than the queue may hold");
  }
  uint64_t last = 0;
  for (const WaitingJob& job : snapshot.waiting) {
    if (job.number <= last) return Broken("the queue is not in order of arrival");
    last = job.number;
    if (!numbers.insert(job.number).second) {
      return Broken(StrCat("job ", job.number, " waits and runs"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::server
