#include "server/inference/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr JobClass kI = JobClass::kInteractive;
constexpr JobClass kB = JobClass::kBulk;

SchedulerSnapshot Idle(int slots, int max_bulk_slots) {
  SchedulerSnapshot snapshot;
  snapshot.slots = slots;
  snapshot.max_bulk_slots = max_bulk_slots;
  snapshot.max_waiting = snapshot.max_waiting_bulk = 8;
  snapshot.free_slots.resize(static_cast<size_t>(slots));
  std::iota(snapshot.free_slots.begin(), snapshot.free_slots.end(), 0);
  return snapshot;
}

void Hold(SchedulerSnapshot* snapshot, uint64_t number, JobClass job_class, int slots) {
  RunningJob job{number, job_class, {}};
  for (int i = 0; i < slots; ++i) {
    job.slots.push_back(snapshot->free_slots.back());
    snapshot->free_slots.pop_back();
  }
  snapshot->running.push_back(job);
}

TEST(Admission, TableOfDecisions) {
  struct Case {
    std::string name;
    int free;  // of 8 slots, the others held by an interactive job
    std::vector<WaitingJob> waiting;
    std::vector<size_t> admitted;
  };
  const std::vector<Case> cases = {
      {"nobody waits", 8, {}, {}},
      {"all fit", 8, {{2, kI, 4}, {3, kI, 4}}, {0, 1}},
      {"in order of arrival", 4, {{2, kI, 4}, {3, kI, 1}}, {0}},
      {"a big job is not overtaken", 4, {{2, kI, 5}, {3, kI, 1}, {4, kB, 1}}, {}},
      {"no slot is free", 0, {{2, kI, 1}}, {}},
      {"bulk keeps to its share", 8, {{2, kB, 1}, {3, kB, 1}, {4, kB, 1}, {5, kB, 1}}, {0, 1}},
      {"interactive passes bulk that waits for its share",
       8,
       {{2, kB, 1}, {3, kB, 1}, {4, kB, 1}, {5, kI, 2}, {6, kB, 1}},
       {0, 1, 3}},
      {"bulk within its share holds its place", 1, {{2, kB, 1}, {3, kI, 1}}, {0}},
  };
  for (const Case& c : cases) {
    SchedulerSnapshot snapshot = Idle(8, 2);
    if (c.free < 8) Hold(&snapshot, 1, kI, 8 - c.free);
    snapshot.waiting = c.waiting;
    ASSERT_TRUE(CheckInvariants(snapshot).ok()) << c.name;
    EXPECT_EQ(Admit(snapshot), c.admitted) << c.name;
    snapshot.draining = true;
    EXPECT_TRUE(Admit(snapshot).empty()) << c.name;
  }
}

TEST(Admission, BulkThatRunsCountsForItsShare) {
  SchedulerSnapshot snapshot = Idle(8, 2);
  Hold(&snapshot, 1, kB, 2);
  snapshot.waiting = {{2, kB, 1}, {3, kI, 1}};
  EXPECT_THAT(Admit(snapshot), ElementsAre(1));
}

TEST(CheckInvariants, NamesWhatIsBroken) {
  const auto broken = [](auto change) {
    SchedulerSnapshot snapshot = Idle(4, 2);
    Hold(&snapshot, 1, kI, 2);
    snapshot.waiting = {{2, kI, 4}};
    change(snapshot);
    return std::string(CheckInvariants(snapshot).message());
  };
  EXPECT_EQ(broken([](SchedulerSnapshot&) {}), "");
  EXPECT_THAT(broken([](SchedulerSnapshot& s) { s.free_slots.pop_back(); }),
              HasSubstr("slots are lost"));
  EXPECT_THAT(broken([](SchedulerSnapshot& s) { s.free_slots.push_back(s.running[0].slots[0]); }),
              HasSubstr("two owners"));
  EXPECT_THAT(broken([](SchedulerSnapshot& s) { s.running[0].slots[0] = 4; }),
              HasSubstr("does not exist"));
  EXPECT_THAT(broken([](SchedulerSnapshot& s) { s.waiting[0].number = 1; }),
              HasSubstr("waits and runs"));
  EXPECT_THAT(broken([](SchedulerSnapshot& s) {
                s.waiting.push_back({1, kI, 1});
              }),
              HasSubstr("order of arrival"));
  EXPECT_THAT(broken([](SchedulerSnapshot& s) {
                s.running[0].job_class = kB;
                s.max_bulk_slots = 1;
              }),
              HasSubstr("share"));
  EXPECT_THAT(broken([](SchedulerSnapshot& s) { s.max_waiting = 0; }), HasSubstr("queue"));
}

}  // namespace
}  // namespace dreamstate::server
