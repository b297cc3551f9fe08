#include "server/inference/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/server/inference/serving_fixture.h"

namespace dreamstate::server {
namespace {

// Calls back at every message.
class WatchingSink final : public DecodeSink {
 public:
  explicit WatchingSink(std::function<void(int)> on_message) : on_message_(std::move(on_message)) {}
  ReaderProgress reader() override { return {}; }
  void Send(v1::DecodeResponse message) override { on_message_(++messages_); }
  void Finish(const absl::Status& status, Unread unread) override { end_.Finish(status, unread); }
  absl::Status Wait() { return end_.Wait(); }
  int messages() const { return messages_; }

 private:
  std::function<void(int)> on_message_;
  int messages_ = 0;
  CollectingSink end_;
};

void ExpectNothingRuns(const Serving& serving) {
  const SchedulerSnapshot snapshot = serving.session->scheduler->Snapshot();
  EXPECT_TRUE(CheckInvariants(snapshot).ok()) << CheckInvariants(snapshot);
  EXPECT_TRUE(snapshot.running.empty());
  EXPECT_EQ(static_cast<int>(snapshot.free_slots.size()), snapshot.slots);
}

TEST(Scheduler, RefusesOptionsThatCannotWork) {
  const auto message = [](SchedulerOptions options) {
    return std::string(Scheduler::Create(TestWeights(), options, nullptr).status().message());
  };
  EXPECT_THAT(message({.threads = 0}), ::testing::StartsWith("threads:"));
  EXPECT_THAT(message({.slots = 0}), ::testing::StartsWith("slots:"));
  EXPECT_THAT(message({.slots = 32, .max_step_tokens = 31}),
              ::testing::StartsWith("max_step_tokens:"));
  EXPECT_THAT(message({.max_waiting = 0}), ::testing::StartsWith("max_waiting:"));
  EXPECT_THAT(message({.slots = 4, .max_bulk_slots = 5}), ::testing::StartsWith("max_bulk_slots:"));
}

TEST(Scheduler, CancellationAtAnyStepFreesTheSlots) {
  Serving serving({.slots = 3, .max_step_tokens = 4});
  for (int at = 1; at <= 12; ++at) {
    DecodeTask task = serving.Task("a prompt of some length", 50);
    task.branches = 3;
    const CallTimes times = serving.Times();
    WatchingSink sink([&](int message) {
      if (message == at) times.cancelled->store(true);
    });
    ASSERT_TRUE(serving.session->scheduler->Submit(serving.Job(task, &sink, times)).ok());
    EXPECT_EQ(sink.Wait().code(), absl::StatusCode::kCancelled);
    // Nothing is computed for it after the step in which it was cancelled.
    EXPECT_LE(sink.messages(), at + 3);
    ExpectNothingRuns(serving);
  }
}

TEST(Scheduler, TheDeadlineIsLookedAtInEveryStep) {
  ManualClock clock;
  Serving serving({.slots = 2, .max_step_tokens = 4}, clock);
  for (int at = 1; at <= 8; ++at) {
    CallTimes times = serving.Times();
    times.deadline = times.arrival + absl::Seconds(1);
    WatchingSink sink([&](int message) {
      if (message == at) clock.Advance(absl::Seconds(2));
    });
    ASSERT_TRUE(
        serving.session->scheduler->Submit(serving.Job(serving.Task("abcdefg", 50), &sink, times))
            .ok());
    EXPECT_EQ(sink.Wait().code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_LE(sink.messages(), at + 1);
    ExpectNothingRuns(serving);
  }
}

TEST(Scheduler, WhatIsCancelledOrLateBeforeItsTurnDoesNoWork) {
  ManualClock clock;
  Serving serving({.slots = 1, .max_step_tokens = 4}, clock);
  CollectingSink holder(1);
  ASSERT_TRUE(serving.Submit(serving.Task("holds the slot", 50), &holder).ok());
  holder.WaitForMessages(1);

  CallTimes late = serving.Times();
  late.deadline = late.arrival + absl::Seconds(1);
  const CallTimes gone = serving.Times();
  CollectingSink late_sink, gone_sink;
  ASSERT_TRUE(
      serving.session->scheduler->Submit(serving.Job(serving.Task("late", 4), &late_sink, late))
          .ok());
  ASSERT_TRUE(
      serving.session->scheduler->Submit(serving.Job(serving.Task("gone", 4), &gone_sink, gone))
          .ok());
  gone.cancelled->store(true);
  clock.Advance(absl::Seconds(2));
  serving.session->scheduler->waker()->Wake();
  EXPECT_EQ(late_sink.Wait().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(gone_sink.Wait().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(late_sink.messages().empty());
  EXPECT_TRUE(gone_sink.messages().empty());
  holder.Read(1000);
  serving.session->scheduler->waker()->Wake();
  EXPECT_TRUE(holder.Wait().ok());
}

TEST(Scheduler, AFullQueueRefusesWithATimeToRetry) {
  SchedulerOptions options{.slots = 1, .max_step_tokens = 4, .max_waiting = 2};
  options.retry_after = absl::Seconds(3);
  Serving serving(options);
  CollectingSink holder(1);
  ASSERT_TRUE(serving.Submit(serving.Task("holds the slot", 50), &holder).ok());
  holder.WaitForMessages(1);
  CollectingSink first, second, third;
  ASSERT_TRUE(serving.Submit(serving.Task("first", 2), &first).ok());
  ASSERT_TRUE(serving.Submit(serving.Task("second", 2), &second).ok());
  const absl::Status refused = serving.Submit(serving.Task("third", 2), &third);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DetailsOf(refused).retry_after, absl::Seconds(3));
  EXPECT_EQ(third.finishes(), 0);
  holder.Read(1000);
  serving.session->scheduler->waker()->Wake();
  EXPECT_TRUE(first.Wait().ok());
  EXPECT_TRUE(second.Wait().ok());
}

// Notes in which order decodes end.
class OrderedSink final : public DecodeSink {
 public:
  // `order` is written on the loop thread; read it when everything has ended.
  explicit OrderedSink(std::vector<const OrderedSink*>* order) : order_(order) {}
  ReaderProgress reader() override { return {.has_room = true}; }
  void Send(v1::DecodeResponse /*message*/) override {}
  void Finish(const absl::Status& status, Unread unread) override {
    order_->push_back(this);
    end_.Finish(status, unread);
  }
  absl::Status Wait() { return end_.Wait(); }

 private:
  std::vector<const OrderedSink*>* const order_;
  CollectingSink end_;
};

TEST(Scheduler, ABigJobIsNotOvertakenForEver) {
  Serving serving({.slots = 4, .max_step_tokens = 16});
  std::vector<const OrderedSink*> order;
  std::vector<std::unique_ptr<OrderedSink>> small;
  const auto submit_small = [&] {
    small.push_back(std::make_unique<OrderedSink>(&order));
    ASSERT_TRUE(serving.Submit(serving.Task("small", 6), small.back().get()).ok());
  };
  for (int i = 0; i < 8; ++i) submit_small();
  DecodeTask big = serving.Task("big", 6);
  big.branches = 4;
  OrderedSink big_sink(&order);
  ASSERT_TRUE(serving.Submit(big, &big_sink).ok());
  for (int i = 0; i < 40; ++i) submit_small();
  EXPECT_TRUE(big_sink.Wait().ok());
  for (const auto& sink : small) EXPECT_TRUE(sink->Wait().ok());
  // Those that came later are done after it.
  const auto when = [&](const OrderedSink* sink) {
    return std::find(order.begin(), order.end(), sink) - order.begin();
  };
  for (size_t i = 8; i < small.size(); ++i) EXPECT_GT(when(small[i].get()), when(&big_sink));
}

TEST(Scheduler, DrainRefusesNewWorkAndFinishesWhatRuns) {
  Serving serving({.slots = 1, .max_step_tokens = 4});
  Scheduler& scheduler = *serving.session->scheduler;
  CollectingSink running(1), waiting;
  ASSERT_TRUE(serving.Submit(serving.Task("runs", 30), &running).ok());
  running.WaitForMessages(1);
  ASSERT_TRUE(serving.Submit(serving.Task("waits", 30), &waiting).ok());
  scheduler.BeginDrain();
  EXPECT_EQ(waiting.Wait().code(), absl::StatusCode::kUnavailable);
  CollectingSink late;
  const absl::Status refused = serving.Submit(serving.Task("late", 1), &late);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(DetailsOf(refused).retry_after.has_value());
  running.Read(1000);
  scheduler.waker()->Wake();
  EXPECT_TRUE(scheduler.Drain(absl::Hours(1)));
  EXPECT_TRUE(running.Wait().ok());
  EXPECT_EQ(Branches(running.messages()).at(0).tokens.size(), 30u);
}

TEST(Scheduler, WhatOutlivesTheDrainLimitEndsUnavailable) {
  Serving serving({.slots = 1, .max_step_tokens = 4});
  CollectingSink stuck(1);
  ASSERT_TRUE(serving.Submit(serving.Task("stuck", 30), &stuck).ok());
  stuck.WaitForMessages(1);
  EXPECT_FALSE(serving.session->scheduler->Drain(absl::ZeroDuration()));
  serving.session->scheduler->Stop();
  EXPECT_EQ(stuck.Wait().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(stuck.finishes(), 1);
  ExpectNothingRuns(serving);
  CollectingSink late;
  EXPECT_EQ(serving.Submit(serving.Task("late", 1), &late).code(), absl::StatusCode::kUnavailable);
}

TEST(Scheduler, AStateOnItsWayToTheStoreSurvivesTheScheduler) {
  auto serving = std::make_unique<Serving>();
  serving->store.HoldPuts();
  DecodeTask task = serving->Task("abc", 3);
  task.save.emplace();
  CollectingSink sink;
  ASSERT_TRUE(serving->Submit(task, &sink).ok());
  serving->store.WaitForHeldPuts(1);
  serving->session->scheduler->Stop();
  EXPECT_EQ(sink.Wait().code(), absl::StatusCode::kUnavailable);
  serving->store.ReleasePuts();
  serving.reset();
  EXPECT_EQ(sink.finishes(), 1);
}

TEST(Scheduler, ReportsItsStepsAndItsLoad) {
  struct Counts final : SchedulerObserver {
    void OnStep(const StepReport& report) override {
      decode += report.decode_tokens;
      prefill += report.prefill_tokens;
      largest = std::max(largest.load(), report.decode_tokens + report.prefill_tokens);
    }
    void OnLoad(int, int, int busy, int slots) override {
      most_busy = std::max(most_busy.load(), busy);
      EXPECT_LE(busy, slots);
    }
    void OnAdmitted(std::string_view kind, absl::Duration) override {
      admitted += kind == "decode" ? 1 : 0;
    }
    void OnFirstToken(absl::Duration) override { ++first_tokens; }
    void OnBranchDone(int64_t tokens, absl::Duration) override { returned += tokens; }
    std::atomic<int> decode{0}, prefill{0}, largest{0}, most_busy{0}, admitted{0}, first_tokens{0};
    std::atomic<int64_t> returned{0};
  } counts;
  {
    Serving serving({.slots = 4, .max_step_tokens = 4}, Clock::Real(), &counts);
    DecodeTask task = serving.Task("0123456789", 5);
    task.branches = 2;
    serving.Decode(task);
  }
  EXPECT_EQ(counts.prefill, 10);
  EXPECT_EQ(counts.decode, 2 * 4);  // the last token of each branch is not read
  EXPECT_EQ(counts.largest, 4);
  EXPECT_EQ(counts.most_busy, 2);
  EXPECT_EQ(counts.admitted, 1);
  EXPECT_EQ(counts.first_tokens, 1);
  EXPECT_EQ(counts.returned, 10);
}

TEST(Scheduler, KeepsItsPromisesUnderRandomOperations) {
  ManualClock clock;
  Serving serving({.threads = 2, .slots = 5, .max_step_tokens = 9, .max_waiting = 6}, clock);
  Scheduler& scheduler = *serving.session->scheduler;
  struct Call {
    CollectingSink sink;
    CallTimes times;
    bool taken = false;
  };
  std::vector<std::unique_ptr<Call>> calls;
  std::mt19937 random(17);
  for (int round = 0; round < 400; ++round) {
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
      case 3: {
        auto call = std::make_unique<Call>();
        call->sink.Read(random() % 3 == 0 ? random() % 6 : 1'000'000);
        call->times = serving.Times();
        if (random() % 4 == 0) call->times.deadline = clock.Now() + absl::Seconds(random() % 3);
        DecodeTask task = serving.Task(std::string(random() % 30, 'p'), 1 + random() % 12);
        task.branches = static_cast<int>(1 + random() % 5);
        if (random() % 3 == 0) task.save.emplace();
        if (random() % 3 == 0) task.stop = {std::string(1, static_cast<char>('a' + random() % 26))};
        const absl::Status status = scheduler.Submit(serving.Job(task, &call->sink, call->times));
        call->taken = status.ok();
        if (!status.ok()) {
          EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
        }
        calls.push_back(std::move(call));
        break;
      }
      case 4:
        if (!calls.empty()) calls[random() % calls.size()]->times.cancelled->store(true);
        break;
      case 5:
        clock.Advance(absl::Milliseconds(300));
        break;
      case 6:
        if (!calls.empty()) calls[random() % calls.size()]->sink.Read(1'000'000);
        break;
      case 7:
        serving.store.FailPuts(random() % 2 == 0 ? absl::OkStatus()
                                                 : absl::UnavailableError("disk"));
        break;
    }
    scheduler.waker()->Wake();
    const absl::Status invariants = CheckInvariants(scheduler.Snapshot());
    ASSERT_TRUE(invariants.ok()) << invariants;
  }
  for (const auto& call : calls) {
    call->sink.Read(1'000'000);
    call->times.cancelled->store(true);
  }
  scheduler.waker()->Wake();
  for (const auto& call : calls) {
    if (call->taken) (void)call->sink.Wait();
  }
  ExpectNothingRuns(serving);
  for (const auto& call : calls) EXPECT_EQ(call->sink.finishes(), call->taken ? 1 : 0);
}

}  // namespace
}  // namespace dreamstate::server
